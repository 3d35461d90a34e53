"""The studio as one object: every part of it, opened in order and closed in the opposite one."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.api.metrics import Requests
from orchestrator.boot import Boot, booted
from orchestrator.datasets.library import Library, open_library
from orchestrator.events import EVERYBODY, RESET, EventLog, open_events
from orchestrator.files.roots import Roots
from orchestrator.jobs.chooser import LaneSpec
from orchestrator.jobs.jobs import Jobs
from orchestrator.jobs.kinds import KINDS, Kind
from orchestrator.jobs.opening import open_jobs
from orchestrator.jobs.queue import Queue
from orchestrator.keys.keys import Keys
from orchestrator.machine.doctor import Doctor
from orchestrator.machine.system import System
from orchestrator.machine.system_feed import feeding
from orchestrator.models.index import ModelIndex
from orchestrator.models.inspector import Inspector, open_inspector
from orchestrator.presets import Presets
from orchestrator.serving.lag import Lag
from orchestrator.serving.readiness import Readiness
from orchestrator.settings import Settings, SettingsStore
from orchestrator.store.control import open_control
from orchestrator.store.database import Database
from orchestrator.store.lock import lock
from orchestrator.store.telemetry import open_telemetry
from orchestrator.workers.pool import WorkerPool

if TYPE_CHECKING:
    from orchestrator.serving.site import Site


class Studio:
    """Made by `open_studio`. Handlers reach everything through it."""

    jobs: Jobs
    queue: Queue
    inspector: Inspector

    def __init__(
        self,
        home: Path,
        settings: SettingsStore,
        control: Database,
        telemetry: Database,
        boot: Boot,
        events: EventLog,
        roots: Roots,
        pool: WorkerPool,
        datasets: Library,
        kinds: Mapping[str, Kind],
    ) -> None:
        self.home = home
        self.settings = settings
        self.control = control
        self.telemetry = telemetry
        self.boot = boot
        self.events = events
        self.roots = roots
        self.pool = pool
        self.datasets = datasets
        self.presets = Presets(control, {name: kind.settings for name, kind in kinds.items()})
        self.keys = Keys(home)
        self.system = System(home)
        self.doctor = Doctor(home)
        self.trash = datasets.trash
        self.models = ModelIndex(home, lambda: settings.current, self.trash, self._models_changed)
        settings.listen(self._settings_changed)
        #: How it is reached; None where a command has opened it for itself.
        self.site: Site | None = None
        self.requests = Requests()
        self.lag = Lag()
        self.readiness = Readiness(home, control)
        #: Idempotency keys of requests that are being carried out now.
        self.keys_in_use: set[str] = set()

    def _models_changed(self) -> None:
        self.events.publish(("models",), "models.changed", {})

    def _settings_changed(self, settings: Settings) -> None:
        self.events.publish(("settings",), "settings.changed", {"etag": self.settings.etag})


@asynccontextmanager
async def open_studio(
    home: Path,
    *,
    kinds: Mapping[str, Kind] = KINDS,
    devices: Sequence[LaneSpec] | None = None,
    run: bool = True,
) -> AsyncIterator[Studio]:
    """The studio on a data directory, with lanes for `devices`; None: for the GPUs of this machine.

    Unless `run`, no job starts. Raises StoreLocked, StoreTooNew, StoreDamaged and DiskFull.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(lock(home))
        settings = SettingsStore(home)
        control = await stack.enter_async_context(open_control(home))
        telemetry = await stack.enter_async_context(open_telemetry(home))
        boot = await stack.enter_async_context(booted(control))
        events_kept = settings.current.limits.events_kept
        events = await stack.enter_async_context(open_events(telemetry, boot.number, events_kept))
        if not boot.was_clean:
            # A change may have been committed of which nobody was told any more.
            events.publish(EVERYBODY, RESET, {})
        roots = Roots(home, lambda: settings.current.roots)
        pool = await stack.enter_async_context(WorkerPool(settings.current.limits.workers))
        datasets = await stack.enter_async_context(
            open_library(home, control, events, boot, roots, pool, lambda: settings.current)
        )
        studio = Studio(home, settings, control, telemetry, boot, events, roots, pool, datasets, kinds)
        await stack.enter_async_context(feeding(studio.system, settings, events))
        opened = await stack.enter_async_context(open_jobs(studio, kinds, devices, run=run))
        studio.jobs, studio.queue = opened
        studio.inspector = await stack.enter_async_context(open_inspector(studio, run=run))
        yield studio
