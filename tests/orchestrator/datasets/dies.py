"""A studio that dies at a certain point of a change: `python -m tests.orchestrator.datasets.dies HOME POINT`.

It dies as by kill -9: nothing is flushed, closed or undone.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from orchestrator.datasets import captioning, journal, uploads
from orchestrator.datasets.captions import Key
from orchestrator.datasets.journal import Change, Edit, apply
from orchestrator.files.beneath import Folder
from orchestrator.ids import new_id
from tests.orchestrator.datasets.shelf import SHIPPED, Shelf, copy_photographs, open_shelf

DIED = 9


def die(*_: Any, **__: Any) -> Any:
    """End at once."""
    os._exit(DIED)


def after(count: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """`real`, which may be called so often."""
    left = count

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        if not left:
            die()
        left -= 1
        return real(*arguments, **options)

    return counted


def set_trap(point: str) -> None:
    """Let the studio die at `point`."""
    match point:
        case "in the transaction":
            journal.captions_of = die  # type: ignore[attr-defined]
        case "after the journal":
            captioning.project = die  # type: ignore[attr-defined]
        case "between two files":
            Folder.rename_new = after(2, Folder.rename_new)  # type: ignore[method-assign]
        case "within a file":
            Folder.rename_new = die  # type: ignore[method-assign]
        case "before the record":
            captioning.record = die  # type: ignore[attr-defined]
        case "before an image is known":
            uploads.images.put = die  # type: ignore[attr-defined]
        case "before an image is in the folder":
            Folder.take = die  # type: ignore[method-assign]


async def tag(shelf: Shelf) -> None:
    """Change every caption, as one edit."""
    ids = [each.id for each in (await shelf.images()).values()]
    changes = [Change(Key(id, "tags"), "tagged\n") for id in ids]
    edit = Edit(id=new_id("edit"), dataset_id=shelf.dataset.id, action="tagging", author="job")
    await shelf.studio.datasets.captioning.change(
        shelf.dataset, ids, ["tags"], lambda db, scene: apply(db, edit, changes)
    )


async def upload(shelf: Shelf) -> None:
    """Send one photograph."""
    from tests.orchestrator.datasets.test_uploads import TYPE, body_of, streamed

    body = body_of([("new.png", (SHIPPED / "coffee.png").read_bytes())])
    await shelf.studio.datasets.uploads.receive(shelf.dataset, TYPE, streamed(body), 10**9, new_id)


async def main(home: Path, point: str) -> None:
    """Do something, and die."""
    async with open_shelf(home) as shelf:
        copy_photographs(shelf.folder)
        await shelf.look()
        await shelf.put("chelsea.png", "a cat")
        set_trap(point)
        await (upload(shelf) if "image" in point else tag(shelf))


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), sys.argv[2])
