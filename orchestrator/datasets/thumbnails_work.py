"""The job `thumbnails`: small pictures of a whole dataset, made before anybody looks."""

from pathlib import Path
from typing import Annotated, Final

import anyio
import msgspec

from contract.base import Reply, Strict
from contract.errors import LorakeetError
from contract.fields import field
from orchestrator.datasets import images
from orchestrator.datasets.images import Image
from orchestrator.datasets.place import Place
from orchestrator.groups import task_group
from orchestrator.jobs.work import Run
from orchestrator.workers.tasks import ThumbnailSize

#: Thumbnails that wait for a worker beside each other.
_SIDE_BY_SIDE: Final = 4


class ThumbnailSettings(Strict, frozen=True, kw_only=True):
    """Which small pictures."""

    sizes: Annotated[
        list[ThumbnailSize], field("Sizes", "Length of the longest side.", unit="pixels", min_length=1)
    ] = msgspec.field(default_factory=lambda: [256])


class ThumbnailsMade(Reply, kw_only=True):
    """`ready` are there now; `failed` could not be made."""

    ready: int = 0
    failed: int = 0


class ThumbnailsWork:
    """One run over a dataset. A later attempt finds what is made already."""

    async def run(self, run: Run) -> ThumbnailsMade:
        """Make them. Raises NotFound, FileMissing, NotReady."""
        library = run.studio.datasets
        dataset = await library.table.get(run.job.dataset_id or "")
        place = await library.place(dataset)
        known = await run.studio.control.read(lambda db: images.all_images(db, dataset.id))
        sizes: list[ThumbnailSize] = run.job.settings["sizes"]
        due = [(each, size) for each in known if _has_picture(each) for size in sizes]
        made, turns = ThumbnailsMade(), anyio.Semaphore(_SIDE_BY_SIDE)

        async def one(image: Image, size: ThumbnailSize) -> None:
            try:
                await _make(run, place, image, size, made)
            finally:
                turns.release()
            run.progress("thumbnails", made.ready + made.failed, len(due), unit="thumbnails")

        async with task_group() as tasks:
            for image, size in due:
                await turns.acquire()
                tasks.start_soon(one, image, size)
        return made


async def _make(run: Run, place: Place, image: Image, size: ThumbnailSize, made: ThumbnailsMade) -> None:
    thumbnails = run.studio.datasets.thumbnails
    assert image.sha256 is not None
    try:
        await thumbnails.get(image.sha256, size, place.path(image.path), Path(place.root), priority="bulk")
        made.ready += 1
    except LorakeetError as error:
        made.failed += 1
        run.log("warning", f"{image.path}: {error.message}")


def _has_picture(image: Image) -> bool:
    return image.sha256 is not None and image.removed_ms is None
