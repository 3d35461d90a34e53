"""Results of a tagging job into the captions of its dataset: scores, journal, files, in this order.

Everything of one job is one edit. What is kept already is known by its scores, which are written in the same
transaction as the journal.
"""

import sqlite3
from typing import Any, Final

import msgspec

from contract.errors import LorakeetError
from contract.methods.job import ManifestItem
from contract.methods.tag import TagSettings
from contract.rules.captions import Existing, combine
from contract.rules.paths import to_wire
from orchestrator.datasets import images, journal
from orchestrator.datasets.captioning import Scene
from orchestrator.datasets.captions import Caption, Key, captions_of, content_of
from orchestrator.datasets.images import Image
from orchestrator.datasets.journal import Change, Edit
from orchestrator.datasets.manifest import Left, Manifest
from orchestrator.datasets.names import CaptionKind
from orchestrator.datasets.place import Place
from orchestrator.datasets.table import Dataset
from orchestrator.datasets.tagging import Tally, Written
from orchestrator.ids import derived_id
from orchestrator.jobs.work import Run

KIND: Final[CaptionKind] = "tags"
_INSERT: Final = "INSERT OR IGNORE INTO scores (job_id, image_id, item) VALUES (?, ?, ?)"


class IntoCaptions:
    """Of one attempt. `existing` says what becomes of captions that are there."""

    def __init__(self, run: Run, settings: TagSettings, existing: Existing) -> None:
        self._run = run
        self._studio = run.studio
        self._settings = settings
        self._existing = existing
        self._dataset: Dataset | None = None
        self._place: Place | None = None
        self._ids: dict[str, str] = {}
        self._paths: dict[str, str] = {}
        self.edit_id: Final = derived_id("edit", run.job.id.partition("_")[2], 1)

    async def begin(self) -> Manifest:
        """Every image that can be tagged; what lies in the folder is looked at first."""
        dataset, place = await self._where()
        library = self._studio.datasets
        await library.index.refresh(dataset, self._progress)
        known = await self._known(dataset)
        captions = await library.captioning.read([each.id for each in known])
        refused = await library.captioning.refused(dataset, captions)
        items: list[ManifestItem] = []
        left: list[Left] = []
        skipped = 0
        for image in known:
            key = Key(image.id, KIND)
            path = to_wire(str(place.path(image.path)))
            has_caption = captions[key].content is not None or _is_unreadable(captions[key])
            if image.problem is not None:
                left.append(Left(path=path, error=image.problem))
            elif key in refused and not (self._existing == "skip" and has_caption):
                left.append(Left(path=path, error=msgspec.to_builtins(refused[key].to_wire())))
            elif self._existing == "skip" and has_caption:
                skipped += 1
            else:
                items.append(ManifestItem(path=path, sha256=image.sha256, caption=captions[key].text))
        return Manifest(items=items, skipped=skipped, left=left)

    async def done(self) -> set[str]:
        """The paths of the images that have scores of this job."""
        dataset, place = await self._where()
        for image in await self._known(dataset):
            path = to_wire(str(place.path(image.path)))
            self._ids[path], self._paths[path] = image.id, image.path
        query = "SELECT image_id FROM scores WHERE job_id = ?"
        rows = await self._studio.control.read(lambda db: db.execute(query, (self._run.job.id,)).fetchall())
        scored = {row["image_id"] for row in rows}
        return {path for path, id in self._ids.items() if id in scored}

    async def roots(self) -> list[str]:
        """The dataset's folder."""
        _, place = await self._where()
        return [str(place.folder)]

    async def keep(self, items: list[tuple[str, Any]]) -> Written:
        """Keep scores and captions. Raises DiskFull, StoreDamaged and FileMissing."""
        dataset, _ = await self._where()
        # The first of what comes twice is what counts.
        there = {self._ids[path]: each for path, each in reversed(items) if path in self._ids}
        paths = {self._ids[path]: path for path, _ in items if path in self._ids}
        failed: dict[Key, LorakeetError] = {}

        def transact(db: sqlite3.Connection, scene: Scene) -> list[Caption]:
            fresh = _score(db, self._run.job.id, there)
            failed.update({key: scene.refused[key] for key in scene.refused if key.image_id in fresh})
            now = captions_of(db, [id for id in fresh if Key(id, KIND) not in failed], [KIND])
            return journal.apply(db, self._edit(dataset), list(self._changes(now, there)))

        captioning = self._studio.datasets.captioning
        changed = await captioning.change(dataset, list(there), [KIND], transact)
        if changed:
            captioning.tell(self._edit(dataset), len(changed))
        texts = {each.key.image_id: each.text for each in changed}
        return Written(
            items=[
                {"image_id": id, "path": self.shown(path), "caption": texts.get(id)}
                for id, path in paths.items()
            ],
            failed=[_left(paths[key.image_id], error) for key, error in failed.items()],
        )

    async def tally(self) -> Tally:
        """What is kept of all attempts."""
        job_id, edit_id = self._run.job.id, self.edit_id
        count = "SELECT count(*) FROM scores WHERE job_id = ?"

        def read(db: sqlite3.Connection) -> Tally:
            edit = journal.find(db, self._run.job.dataset_id or "", edit_id)
            return Tally(
                tagged=int(db.execute(count, (job_id,)).fetchone()[0]),
                written=edit.changes if edit else 0,
                edit_id=edit_id if edit else None,
            )

        return await self._studio.control.read(read)

    async def close(self) -> None:
        """Nothing is held."""

    def shown(self, path: str) -> str:
        """The path within the dataset."""
        return self._paths.get(path, path)

    def _edit(self, dataset: Dataset) -> Edit:
        job_id = self._run.job.id
        return Edit(id=self.edit_id, dataset_id=dataset.id, action="tagging", author="job", job_id=job_id)

    def _changes(self, now: dict[Key, Caption], there: dict[str, Any]) -> list[Change]:
        changes = []
        for key, caption in now.items():
            text = combine(
                caption.text,
                there[key.image_id]["caption"],
                self._existing,
                self._settings.separator,
                first=self._settings.always_first,
            )
            # The same text stays as it is written, to the byte.
            if text is not None and text != caption.text:
                changes.append(Change(key, content_of(text)))
        return changes

    async def _where(self) -> tuple[Dataset, Place]:
        if self._dataset is None or self._place is None:
            self._dataset = await self._studio.datasets.table.get(self._run.job.dataset_id or "")
            self._place = await self._studio.datasets.place(self._dataset)
        return self._dataset, self._place

    async def _known(self, dataset: Dataset) -> list[Image]:
        everything = await self._studio.control.read(lambda db: images.all_images(db, dataset.id))
        return [each for each in everything if each.removed_ms is None]

    def _progress(self, phase: str, step: int, total: int) -> None:
        self._run.progress(phase, step, total, unit="files")


def _score(db: sqlite3.Connection, job_id: str, items: dict[str, Any]) -> list[str]:
    """Keep the scores; the images that had none of this job, and are still there."""
    fresh = []
    for some in images.chunks(list(items)):
        marks = ",".join("?" * len(some))
        query = (
            f"SELECT id FROM images WHERE id IN ({marks}) AND removed_ms IS NULL AND NOT EXISTS"
            " (SELECT 1 FROM scores WHERE job_id = ? AND image_id = images.id)"
        )
        fresh += [row["id"] for row in db.execute(query, (*some, job_id))]
    db.executemany(_INSERT, [(job_id, id, msgspec.json.encode(items[id])) for id in fresh])
    return fresh


def _is_unreadable(caption: Caption) -> bool:
    return caption.problem is not None


def _left(path: str, error: LorakeetError) -> Left:
    return Left(path=path, error=msgspec.to_builtins(error.to_wire()))
