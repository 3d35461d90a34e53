"""The datasets of a studio: everything that routes and jobs need of them, in one place."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from anyio import to_thread

from contract.errors import LorakeetError
from orchestrator.boot import Boot
from orchestrator.datasets.captioning import Captioning
from orchestrator.datasets.images import Images
from orchestrator.datasets.index import Index
from orchestrator.datasets.lifecycle import Lifecycle
from orchestrator.datasets.place import Place, place_of
from orchestrator.datasets.spool import clear
from orchestrator.datasets.table import Dataset, DatasetTable, all_datasets
from orchestrator.datasets.thumbnails import Thumbnails
from orchestrator.datasets.uploads import Uploads
from orchestrator.events import EventLog
from orchestrator.files.returning import bring_back
from orchestrator.files.roots import Roots
from orchestrator.files.trash import Trash
from orchestrator.groups import task_group
from orchestrator.settings import Settings
from orchestrator.store.database import Database
from orchestrator.workers.pool import WorkerPool

_logger = logging.getLogger("lorakeet.datasets")


class Library:
    """Made by `open_library`."""

    def __init__(
        self,
        home: Path,
        control: Database,
        events: EventLog,
        boot: Boot,
        roots: Roots,
        pool: WorkerPool,
        settings: Callable[[], Settings],
    ) -> None:
        self._control = control
        self._roots = roots
        self.table = DatasetTable(control)
        self.images = Images(control)
        self.captioning = Captioning(control, events, roots, may_be_torn=not boot.was_clean)
        self.index = Index(control, roots, pool, self.captioning, lambda: settings().limits.max_image_pixels)
        self.uploads = Uploads(home / "uploads", control, roots, self.index, self.captioning)
        self.trash = Trash(home)
        self.lifecycle = Lifecycle(control, self.table, roots, self.captioning, self.trash)
        self.thumbnails = Thumbnails(
            home / "caches" / "thumbnails", pool, max_pixels=settings().limits.max_image_pixels
        )

    async def place(self, dataset: Dataset) -> Place:
        """Where it lies. Raises FileMissing and InvalidParams."""
        return await to_thread.run_sync(place_of, self._roots, dataset)

    async def settle(self, *, everything: bool) -> None:
        """Bring caption files in line with the journal; what cannot be now is tried again later."""
        for dataset in await self._control.read(all_datasets):
            try:
                await self.captioning.settle(dataset, everything=everything)
            except LorakeetError as error:
                _logger.warning("the captions of %s are not all written: %s", dataset.id, error.message)


@asynccontextmanager
async def open_library(
    home: Path,
    control: Database,
    events: EventLog,
    boot: Boot,
    roots: Roots,
    pool: WorkerPool,
    settings: Callable[[], Settings],
) -> AsyncIterator[Library]:
    """The datasets of a studio. What an unclean end left half done is made good beside the first requests."""
    await to_thread.run_sync(clear, home / "uploads")
    library = Library(home, control, events, boot, roots, pool, settings)
    if not boot.was_clean:
        await bring_back(control, library.trash)
    async with task_group() as tasks:
        tasks.start_soon(lambda: library.settle(everything=not boot.was_clean))
        try:
            yield library
        finally:
            tasks.cancel_scope.cancel()
