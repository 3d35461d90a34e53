"""Bringing what is known of a dataset in line with its folder: new, changed and vanished images, captions.

Only files whose size or time of change is another are read again, by worker processes. What cannot be decoded
stays known, with its problem.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import anyio
import msgspec
from anyio import to_thread

from contract.errors import LorakeetError, OutOfMemory, WireError, WorkerDied, WorkerTimeout
from contract.rules.paths import to_wire
from orchestrator.clock import now_ms
from orchestrator.datasets import images
from orchestrator.datasets.captioning import PAGE, Captioning, EditFor
from orchestrator.datasets.images import Image
from orchestrator.datasets.names import parts_of, stem_of
from orchestrator.datasets.place import Place, place_of
from orchestrator.datasets.scan import Found, FoundFile, walk
from orchestrator.datasets.table import Dataset
from orchestrator.files.roots import Roots
from orchestrator.groups import task_group
from orchestrator.ids import new_id
from orchestrator.store.database import Database
from orchestrator.workers.pool import WorkerPool
from orchestrator.workers.tasks import SCAN, ScanArguments, ScannedFile

#: Files that a worker looks at in one task, and their bytes together: a task has some seconds.
BATCH = 32
BATCH_BYTES = 64 << 20
#: Batches that wait for a worker beside each other.
_SIDE_BY_SIDE = 4

#: Told of a phase, how far it is, and of how much.
Progress = Callable[[str, int, int], None]


class Indexed(msgspec.Struct, kw_only=True):
    """What an import came to: images by what was found of them, and captions that are new or were changed."""

    images: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    problems: int = 0
    captions: int = 0
    locked: list[str] = []


class Index:
    """Made once a studio; one dataset is brought in line by one caller at a time."""

    def __init__(
        self,
        control: Database,
        roots: Roots,
        pool: WorkerPool,
        captioning: Captioning,
        max_pixels: Callable[[], int],
    ) -> None:
        self._control = control
        self._roots = roots
        self._pool = pool
        self._captioning = captioning
        self._max_pixels = max_pixels
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)

    async def refresh(self, dataset: Dataset, progress: Progress, edit_for: EditFor | None = None) -> Indexed:
        """Look at the whole folder. Raises FileMissing, FileUnreadable, DiskFull, StoreDamaged, NotReady."""
        async with self._locks[dataset.id]:
            place = await to_thread.run_sync(place_of, self._roots, dataset)
            # In this order: of what an upload adds meanwhile, a file is seen and no row is missed.
            known = {each.path: each for each in await self._known(dataset)}
            found = await to_thread.run_sync(walk, place)
            stale = [file for file in found.files if _is_stale(known.get(file.path), file)]
            outcome = _compared(known, found, stale)
            await self._scan_all(dataset, place, known, stale, progress)
            await self._forget(place, _gone(known, found))
            now = await self._known(dataset)
            outcome.problems = sum(each.problem is not None for each in now if each.removed_ms is None)
            outcome.captions = await self._caption(dataset, now, progress, edit_for)
        return outcome

    async def scan(self, place: Place, paths: Sequence[str]) -> list[ScannedFile]:
        """What workers say of files of a dataset, or of others below its root. A file that ends its worker
        has that as its error."""
        try:
            return await self._ask(place, paths)
        except (WorkerDied, WorkerTimeout, OutOfMemory) as error:
            if len(paths) == 1:
                return [ScannedFile(path=paths[0], error=error.to_wire())]
            return [each for path in paths for each in await self.scan(place, [path])]

    async def _ask(self, place: Place, paths: Sequence[str]) -> list[ScannedFile]:
        arguments = ScanArguments(root=to_wire(place.root), paths=list(paths), max_pixels=self._max_pixels())
        return (await self._pool.run(SCAN, arguments, priority="bulk")).files

    async def _known(self, dataset: Dataset) -> list[Image]:
        return await self._control.read(lambda db: images.all_images(db, dataset.id))

    async def _scan_all(
        self,
        dataset: Dataset,
        place: Place,
        known: dict[str, Image],
        stale: Sequence[FoundFile],
        progress: Progress,
    ) -> None:
        done = 0
        progress("scan", 0, len(stale))
        turns = anyio.Semaphore(_SIDE_BY_SIDE)

        async def one(batch: list[FoundFile]) -> None:
            nonlocal done
            try:
                scanned = await self._scan_batch(place, batch)
            finally:
                turns.release()
            made = [
                image_of(dataset.id, known.get(file.path), file, scanned.get(file.path)) for file in batch
            ]
            await self._control.write(lambda db: images.put(db, made))
            done += len(batch)
            progress("scan", done, len(stale))

        async with task_group() as tasks:
            for batch in _batches(stale):
                await turns.acquire()
                tasks.start_soon(one, batch)

    async def _scan_batch(self, place: Place, batch: Sequence[FoundFile]) -> dict[str, ScannedFile]:
        readable = [file.path for file in batch if file.problem is None]
        paths = [to_wire(str(place.path(path))) for path in readable]
        scanned = await self.scan(place, paths) if paths else []
        return dict(zip(readable, scanned, strict=True))

    async def _forget(self, place: Place, gone: Sequence[Image]) -> None:
        if still := await to_thread.run_sync(_still_gone, place, gone):
            await self._control.write(lambda db: images.remove(db, still, now_ms()))

    async def _caption(
        self, dataset: Dataset, known: Sequence[Image], progress: Progress, edit_for: EditFor | None
    ) -> int:
        """Read the caption files."""
        ids = [each.id for each in known if each.removed_ms is None]
        changed = 0
        for start in range(0, len(ids), PAGE):
            progress("captions", start, len(ids))
            some = ids[start : start + PAGE]
            changed += await self._captioning.refresh(dataset, some, closely=True, edit_for=edit_for)
        progress("captions", len(ids), len(ids))
        return changed


def image_of(dataset_id: str, known: Image | None, file: FoundFile, scanned: ScannedFile | None) -> Image:
    """What is now known of a file."""
    error: WireError | LorakeetError | None = file.problem or (scanned.error if scanned else None)
    wire = error.to_wire() if isinstance(error, LorakeetError) else error
    picture = scanned.picture if scanned else None
    return Image(
        id=known.id if known else new_id("img"),
        dataset_id=dataset_id,
        path=file.path,
        stem=stem_of(file.path),
        size_bytes=file.size_bytes,
        mtime_ns=file.mtime_ns,
        sha256=picture.sha256 if picture else None,
        width=picture.width if picture else None,
        height=picture.height if picture else None,
        format=picture.format if picture else None,
        problem=None if wire is None else msgspec.to_builtins(wire),
        added_ms=known.added_ms if known else now_ms(),
        removed_ms=None,
    )


def _is_stale(known: Image | None, file: FoundFile) -> bool:
    """Whether a file has to be read. One with a problem is: permissions change without a trace."""
    if known is None or known.removed_ms is not None or known.problem is not None:
        return True
    return (known.size_bytes, known.mtime_ns) != (file.size_bytes, file.mtime_ns) or file.problem is not None


def _gone(known: dict[str, Image], found: Found) -> list[Image]:
    there = {file.path for file in found.files}
    return [
        each
        for path, each in known.items()
        if each.removed_ms is None and path not in there and not _is_below(path, found.locked)
    ]


def _still_gone(place: Place, gone: Sequence[Image]) -> list[str]:
    """The ids of those that did not come back while the others were read."""
    return [each.id for each in gone if not os.path.lexists(place.path(each.path))]


def _is_below(path: str, folders: Sequence[str]) -> bool:
    if not folders:
        return False
    parts = parts_of(path)
    return any(parts[: len(above)] == above for above in map(parts_of, folders))


def _compared(known: dict[str, Image], found: Found, stale: Sequence[FoundFile]) -> Indexed:
    there = {path for path, each in known.items() if each.removed_ms is None}
    added = sum(file.path not in there for file in stale)
    changed = sum(
        (known[file.path].size_bytes, known[file.path].mtime_ns) != (file.size_bytes, file.mtime_ns)
        for file in stale
        if file.path in there
    )
    return Indexed(
        images=len(found.files),
        added=added,
        changed=changed,
        removed=len(_gone(known, found)),
        locked=found.locked[:100],
    )


def _batches(files: Sequence[FoundFile]) -> Iterator[list[FoundFile]]:
    batch: list[FoundFile] = []
    size = 0
    for file in files:
        if batch and (len(batch) == BATCH or size + file.size_bytes > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size_bytes
    if batch:
        yield batch
