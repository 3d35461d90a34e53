"""Changing captions: files looked at first, then the journal, then the files.

One change a dataset at a time. What an editor has written meanwhile is taken into the journal before anything
is decided, so that a change is always one of what is really there. A file that cannot be written now follows
later; the journal has the caption already.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

import anyio
from anyio import to_thread

from contract.errors import LorakeetError, NotFound
from orchestrator.datasets import journal
from orchestrator.datasets.captions import (
    Caption,
    FileState,
    Key,
    captioned,
    captions_of,
    collisions,
    content_of,
    record,
    unwritten,
)
from orchestrator.datasets.journal import Action, Change, Edit, Reverted
from orchestrator.datasets.look import Seen, Stamp, look
from orchestrator.datasets.names import KINDS, CaptionKind
from orchestrator.datasets.place import Place, place_of
from orchestrator.datasets.projection import Due, project
from orchestrator.datasets.table import Dataset
from orchestrator.events import EventLog
from orchestrator.files.roots import Roots
from orchestrator.ids import new_id
from orchestrator.store.database import Database

T = TypeVar("T")

#: Images that are looked at together where nobody waits.
PAGE = 1_000


class Scene(NamedTuple):
    """What is there before a change: the stamps of the files, and the captions that cannot be changed."""

    place: Place
    stamps: Mapping[Key, Stamp | None]
    refused: Mapping[Key, LorakeetError]


#: Writes into the journal, and returns the captions whose files are to follow.
Transact = Callable[[sqlite3.Connection, Scene], list[Caption]]
#: The edit that what was found in files becomes a part of.
EditFor = Callable[[Action], Edit]


class Captioning:
    """The one way to change captions. `may_be_torn`: there may have been a power cut since the last boot."""

    def __init__(
        self, control: Database, events: EventLog, roots: Roots, *, may_be_torn: bool = False
    ) -> None:
        self._control = control
        self._events = events
        self._roots = roots
        self._may_be_torn = may_be_torn
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)

    async def change(
        self, dataset: Dataset, ids: Sequence[str], kinds: Sequence[CaptionKind], transact: Transact
    ) -> list[Caption]:
        """Let `transact` change captions of these images; the changed ones.

        Raises what it raises, and nothing is changed then; FileMissing where the dataset's root is gone.
        """
        async with self._locks[dataset.id]:
            scene, _ = await self._seen(dataset, ids, kinds, None)
            # What is in the journal should also be in its files, whoever has stopped waiting for it.
            with anyio.CancelScope(shield=True):
                changed = await self._write(dataset, lambda db: transact(db, scene))
                due = [Due(each, scene.stamps.get(each.key)) for each in changed]
                if len(await self._project(dataset, scene.place, due)) == len(due):
                    await self._catch_up(dataset)
        return changed

    async def put(
        self, dataset: Dataset, edit: Edit, key: Key, text: str | None, check: Callable[[Caption], None]
    ) -> Caption:
        """Make one caption say `text`; None removes it. `check` may refuse the caption as it is now.

        Raises what `check` raises, NotFound, CaptionCollision and CaptionUnreadable.
        """

        def transact(db: sqlite3.Connection, scene: Scene) -> list[Caption]:
            now = captions_of(db, [key.image_id], [key.kind]).get(key)
            if now is None:
                raise NotFound("The image is not there any more.", where=key.image_id)
            if error := scene.refused.get(key):
                raise error
            check(now)
            return journal.apply(db, edit, [Change(key, content_of(text))])

        if await self.change(dataset, [key.image_id], [key.kind], transact):
            self.tell(edit, 1)
        return (await self.read([key.image_id]))[key]

    async def revert(self, dataset: Dataset, edit: Edit) -> Reverted:
        """Undo the edit that `edit` reverts."""
        keys = await self._control.read(lambda db: journal.keys_of(db, edit.reverts or ""))
        outcome = Reverted([], [])

        def transact(db: sqlite3.Connection, scene: Scene) -> list[Caption]:
            nonlocal outcome
            outcome = journal.revert(db, edit, scene.refused)
            return outcome.captions

        ids = list(dict.fromkeys(key.image_id for key in keys))
        await self.change(dataset, ids, sorted({key.kind for key in keys}), transact)
        self.tell(edit, len(outcome.captions))
        return outcome

    async def read(self, ids: Sequence[str]) -> dict[Key, Caption]:
        """The captions of images as the journal has them."""
        return await self._control.read(lambda db: captions_of(db, ids))

    async def refused(self, dataset: Dataset, captions: Mapping[Key, Caption]) -> dict[Key, LorakeetError]:
        """Why some of them cannot be changed."""
        found = await self._control.read(lambda db: collisions(db, dataset.id, captions))
        problems = {key: each.problem for key, each in captions.items() if each.problem is not None}
        return {**problems, **found}

    async def refresh(
        self, dataset: Dataset, ids: Sequence[str], *, closely: bool = False, edit_for: EditFor | None = None
    ) -> int:
        """Take in what was changed outside, and write what is still to be written; how many were news.

        Unless `closely`, files that seem to be as they were are not read, and nobody is waited for.
        """
        if not closely and (not await self._is_news(dataset, ids) or self._locks[dataset.id].locked()):
            return 0
        async with self._locks[dataset.id]:
            with anyio.CancelScope(shield=True):
                _, changed = await self._seen(dataset, ids, KINDS, edit_for)
        return changed

    async def withdraw(self, dataset: Dataset, image_id: str) -> None:
        """Remove the caption files of an image that goes; the journal keeps what they said.

        Raises FileMissing where the dataset's root is gone.
        """
        async with self._locks[dataset.id]:
            scene, _ = await self._seen(dataset, [image_id], KINDS, None)
            captions = await self.read([image_id])
            due = [
                Due(each._replace(content=None), scene.stamps[key])
                for key, each in captions.items()
                if key not in scene.refused and scene.stamps.get(key) is not None
            ]
            # First: a file that is gone without this record would be one that somebody removed.
            states = [FileState(each.caption.key, 0, None, None, None) for each in due]
            await self._control.write(lambda db: record(db, states))
            await to_thread.run_sync(project, scene.place, due)

    async def settle(self, dataset: Dataset, *, everything: bool) -> None:
        """Write what is still to be written; with `everything`, look at every caption file.

        Raises FileMissing, DiskFull and StoreDamaged.
        """
        ids = await self._control.read(lambda db: unwritten(db, dataset.id, PAGE))
        while ids:
            await self.refresh(dataset, ids, closely=True)
            left = await self._control.read(lambda db: unwritten(db, dataset.id, PAGE))
            ids = [] if set(left) & set(ids) else left
        after = ""
        while everything and (page := await self._captioned(dataset, after)):
            await self.refresh(dataset, page)
            after = page[-1]

    def tell(self, edit: Edit, changes: int) -> None:
        """Say that captions were changed."""
        said = {"id": edit.dataset_id, "edit_id": edit.id, "action": edit.action, "changes": changes}
        self._publish(edit.dataset_id, "dataset.changed", said)

    async def _captioned(self, dataset: Dataset, after: str) -> list[str]:
        return await self._control.read(lambda db: captioned(db, dataset.id, after, PAGE))

    async def _is_news(self, dataset: Dataset, ids: Sequence[str]) -> bool:
        _, seen, _ = await self._looked(dataset, ids, KINDS, closely=False)
        return any(each.is_news or each.verdict in ("outside", "behind") for each in seen)

    async def _write(self, dataset: Dataset, work: Callable[[sqlite3.Connection], T]) -> T:
        """Raises NotFound where the dataset was deleted meanwhile."""
        try:
            return await self._control.write(work)
        except sqlite3.IntegrityError:
            raise NotFound("The dataset is not there any more.", where=dataset.id) from None

    async def _catch_up(self, dataset: Dataset) -> None:
        """Now that files can be written, those that could not be before."""
        if ids := await self._control.read(lambda db: unwritten(db, dataset.id, PAGE)):
            await self._seen(dataset, ids, KINDS, None)

    async def _seen(
        self,
        dataset: Dataset,
        ids: Sequence[str],
        kinds: Sequence[CaptionKind],
        edit_for: EditFor | None,
    ) -> tuple[Scene, int]:
        """Look closely, take in what is news, write what is behind; and how many were changed outside."""
        place, seen, refused = await self._looked(dataset, ids, kinds, closely=True)
        stamps = {each.caption.key: each.stamp for each in seen}
        refused.update({each.caption.key: each.error for each in seen if each.error is not None})
        outside = [each for each in seen if each.verdict == "outside"]
        news = [each for each in seen if each.is_news]
        if outside or news:
            edit_of = edit_for or (lambda action: _found(dataset, action))
            edits = await self._write(dataset, lambda db: _take_in(db, edit_of, outside, news))
            for edit, changes in edits:
                self.tell(edit, changes)
        behind = [Due(each.caption, each.stamp) for each in seen if each.verdict == "behind"]
        stamps.update(await self._project(dataset, place, behind))
        return Scene(place, stamps, refused), len(outside)

    async def _looked(
        self, dataset: Dataset, ids: Sequence[str], kinds: Sequence[CaptionKind], *, closely: bool
    ) -> tuple[Place, list[Seen], dict[Key, LorakeetError]]:
        def read(db: sqlite3.Connection) -> tuple[list[Caption], dict[Key, LorakeetError]]:
            captions = captions_of(db, ids, kinds)
            shared = collisions(db, dataset.id, captions)
            return [each for key, each in captions.items() if key not in shared], {**shared}

        captions, refused = await self._control.read(read)
        place = await to_thread.run_sync(place_of, self._roots, dataset)
        torn = self._may_be_torn
        seen = await to_thread.run_sync(lambda: look(place, captions, closely=closely, may_be_torn=torn))
        return place, seen, refused

    async def _project(self, dataset: Dataset, place: Place, due: Sequence[Due]) -> dict[Key, Stamp | None]:
        """Write files; the stamps of those that are written. A failure is told, and made good later."""
        if not due:
            return {}
        done = await to_thread.run_sync(project, place, due)
        if done.written:
            # Without this record they are found to be in line the next time.
            with suppress(LorakeetError):
                await self._control.write(lambda db: record(db, [state for state, _ in done.written]))
        if done.failed:
            self._tell_unwritten(dataset, len(done.failed), done.failed[0][1])
        return {state.key: stamp for state, stamp in done.written}

    def _tell_unwritten(self, dataset: Dataset, count: int, error: LorakeetError) -> None:
        problem = {"code": error.kind, "message": error.message, "hint": error.hint}
        said = {"id": dataset.id, "unwritten": count, "problem": problem}
        self._publish(dataset.id, "dataset.captions_unwritten", said)

    def _publish(self, dataset_id: str, name: str, said: dict[str, object]) -> None:
        self._events.publish(("datasets", f"dataset:{dataset_id}"), name, said)


def _take_in(
    db: sqlite3.Connection, edit_of: EditFor, outside: Sequence[Seen], news: Sequence[Seen]
) -> list[tuple[Edit, int]]:
    """What was found in files, into the journal; the edits, and how many changes each got."""
    record(db, [_state(each) for each in news])
    edits = []
    for action, some in _by_action(outside).items():
        edit = edit_of(action)
        contents = {each.caption.key: each for each in some}
        changed = journal.apply(db, edit, [Change(key, each.content) for key, each in contents.items()])
        record(db, [contents[each.key].state(each.version) for each in changed])
        edits.append((edit, len(changed)))
    return edits


def _by_action(outside: Sequence[Seen]) -> dict[Action, list[Seen]]:
    found: dict[Action, list[Seen]] = {}
    for each in outside:
        found.setdefault("outside" if each.caption.version else "import", []).append(each)
    return found


def _state(seen: Seen) -> FileState:
    """A file that cannot be read says nothing new."""
    caption = seen.caption
    return seen.state(caption.projected if seen.verdict == "unreadable" else caption.version)


def _found(dataset: Dataset, action: Action) -> Edit:
    return Edit(id=new_id("edit"), dataset_id=dataset.id, action=action, author="outside")
