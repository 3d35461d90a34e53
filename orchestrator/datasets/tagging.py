"""The job `tag`: images through a tagger, and what it says into captions as it comes.

The first attempt freezes what is to be done. What has come is in the journal within a moment, so a later
attempt, after whatever end, does the rest; what comes twice counts once.
"""

import time
from asyncio import Task, create_task
from typing import Any, Final, Protocol

import anyio
import msgspec
from anyio import to_thread

from contract.base import Reply
from contract.errors import KernelFault, LorakeetError
from contract.methods.job import FailedImage, ManifestItem
from contract.methods.tag import TaggedImage, TagOutcome, TagSettings
from contract.notifications import Partial
from contract.rules.captions import Existing
from contract.rules.paths import to_wire
from orchestrator.datasets.manifest import Left, Manifest, freeze, frozen, write_todo
from orchestrator.files.snapshots import folders_of_model
from orchestrator.jobs.work import Prepared, Run

#: Seconds between two writes, and images in one.
INTERVAL_S: Final = 0.25
BATCH: Final = 256
#: Failures that the outcome names; the log has every one.
MAX_FAILED: Final = 100


class Failed(Reply, kw_only=True):
    """An image that could not be done: `path` within its dataset or as it travels, and a WireError."""

    path: str
    error: dict[str, Any]


class TagResult(Reply, kw_only=True):
    """How a tagging job stands, over all its attempts.

    `tagged` have been through the tagger; `written` of them have another caption now, in the edit `edit_id`.
    `skipped` were left alone, having one, or the very same. `failed` has the first of `failed_count`.
    """

    tagged: int
    written: int
    skipped: int
    failed_count: int
    failed: list[Failed]
    edit_id: str | None = None
    tag_counts: dict[str, int] = {}
    provider: str | None = None
    timings: dict[str, float] = {}
    warnings: list[str] = []


class Written(Reply, kw_only=True):
    """What became of a batch: items for those who follow the job, and images whose caption cannot change."""

    items: list[dict[str, Any]]
    failed: list[Left] = []


class Tally(Reply, kw_only=True):
    """What has been kept of a job by now."""

    tagged: int
    written: int
    edit_id: str | None = None


class Destination(Protocol):
    """Where the results of one job go."""

    async def begin(self) -> Manifest:
        """What is to be done, at the first attempt."""

    async def done(self) -> set[str]:
        """The paths, as in the manifest, of which the result is kept."""

    async def keep(self, items: list[tuple[str, Any]]) -> Written:
        """Keep results: pairs of the manifest's path and the TaggedImage in plain values."""

    async def tally(self) -> Tally:
        """What is kept."""

    async def close(self) -> None:
        """There will be no more of this attempt."""

    async def roots(self) -> list[str]:
        """The folders that the files lie in."""

    def shown(self, path: str) -> str:
        """How people know a path of the manifest."""


class TagWork:
    """One attempt of a tagging job."""

    method: Final = "tag"
    version: Final = 2

    def __init__(self) -> None:
        self._destination: Destination | None = None
        self._manifest = Manifest(items=[])
        self._todo: list[ManifestItem] = []
        self._waiting: list[Any] = []
        self._failed: list[Left] = []
        self._unwritable = 0
        self._wanted = anyio.Event()
        self._is_ending = False
        self._writer: Task[None] | None = None
        self._error: Exception | None = None

    async def prepare(self, run: Run) -> Prepared | None:
        """Freeze the manifest, or take the one of the first attempt; None where all of it is done."""
        settings = msgspec.convert(run.job.settings, TagSettings)
        destination = self._destination = destination_of(run, settings)
        manifest = await to_thread.run_sync(frozen, run.folder)
        if manifest is None:
            manifest = await destination.begin()
            await to_thread.run_sync(freeze, run.folder, manifest)
        self._manifest = manifest
        done = await destination.done()
        file, self._todo = await to_thread.run_sync(write_todo, run.folder, manifest.items, done)
        if not self._todo:
            return None
        models = await to_thread.run_sync(folders_of_model, settings.model.path)
        roots = [*await destination.roots(), str(run.folder.absolute()), *models]
        return Prepared(
            settings=settings,
            inputs={"manifest": to_wire(str(file))},
            roots=list(dict.fromkeys(map(to_wire, roots))),
        )

    def take(self, run: Run, partial: Partial) -> None:
        """Take finished items; they are kept within a moment."""
        for failure in msgspec.convert(partial.failed, list[FailedImage]):
            error = msgspec.to_builtins(failure.error)
            self._failed.append(Left(path=self._path(failure.index), error=error))
            run.log("warning", f"{self._shown(failure.index)}: {failure.error.message}")
        if self._error is not None or not partial.items:
            return
        self._waiting += partial.items
        self._wanted.set()
        if self._writer is None:
            # It outlives this call, and ends with `finish`.
            self._writer = create_task(self._write(run))

    async def finish(self, run: Run, outcome: Any | None) -> TagResult:
        """Keep what is left. Raises what kept it from being kept, as a full disk."""
        destination = self._destination
        assert destination is not None
        with anyio.CancelScope(shield=True):
            self._is_ending = True
            self._wanted.set()
            if self._writer is not None:
                await self._writer
            await destination.close()
            tally = await destination.tally()
        if self._error is not None:
            raise self._error
        return self._result(tally, msgspec.convert(outcome, TagOutcome | None))

    async def _write(self, run: Run) -> None:
        """Keep what comes, a few times a second."""
        assert self._destination is not None
        while self._waiting or not self._is_ending:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            started = time.monotonic()
            while self._waiting and self._error is None:
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                await self._keep(run, self._destination, batch)
            if not self._is_ending:
                with anyio.move_on_after(started + INTERVAL_S - time.monotonic()):
                    await anyio.sleep_forever()

    async def _keep(self, run: Run, destination: Destination, batch: list[Any]) -> None:
        try:
            written = await destination.keep([(self._path(item), each) for item, each in _indexed(batch)])
        except LorakeetError as error:
            # What is not kept is done again by the next attempt; holding it would only fill the memory.
            self._error = error
            self._waiting.clear()
            run.log("error", f"{error.message} The results from here on are not kept.")
            return
        self._failed += written.failed
        self._unwritable += len(written.failed)
        run.publish("job.item", {"id": run.job.id, "items": written.items})

    def _path(self, index: int) -> str:
        """Raises KernelFault for an item that was not asked for."""
        if not 0 <= index < len(self._todo):
            raise KernelFault("The kernel reported an image that it was not given.")
        return self._todo[index].path

    def _shown(self, index: int) -> str:
        assert self._destination is not None
        return self._destination.shown(self._path(index))

    def _result(self, tally: Tally, outcome: TagOutcome | None) -> TagResult:
        failed = [*self._manifest.left, *self._failed]
        assert self._destination is not None
        shown = [
            Failed(path=self._destination.shown(each.path), error=each.error) for each in failed[:MAX_FAILED]
        ]
        result = TagResult(
            tagged=tally.tagged,
            written=tally.written,
            skipped=self._manifest.skipped + max(0, tally.tagged - tally.written - self._unwritable),
            failed_count=len(failed),
            failed=shown,
            edit_id=tally.edit_id,
        )
        if outcome is not None:
            result.tag_counts, result.provider = outcome.tag_counts, outcome.provider
            result.timings, result.warnings = outcome.timings, outcome.warnings
        return result


def destination_of(run: Run, settings: TagSettings) -> Destination:
    """Captions for a dataset, a file of results for single files."""
    source = run.job.source or {}
    if source.get("dataset") is not None:
        from orchestrator.datasets.into_captions import IntoCaptions

        existing: Existing = msgspec.convert(run.job.existing or "skip", Existing)
        return IntoCaptions(run, settings, existing)
    from orchestrator.datasets.into_results import IntoResults

    return IntoResults(run)


def _indexed(batch: list[Any]) -> list[tuple[int, Any]]:
    """Items with their indices. Raises KernelFault for what is no TaggedImage."""
    try:
        return [(msgspec.convert(each, TaggedImage).index, each) for each in batch]
    except msgspec.ValidationError:
        raise KernelFault("The kernel reported something that is no tagged image.") from None
