"""The machine as a stream of events, for as long as somebody listens."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from orchestrator.groups import task_group

if TYPE_CHECKING:
    from orchestrator.events import EventLog
    from orchestrator.machine.system import System
    from orchestrator.settings import SettingsStore

_log = logging.getLogger(__name__)

#: Seconds between two samples.
EVERY_S: Final = 2.0
TOPIC: Final = "system"


async def feed(
    system: "System", settings: "SettingsStore", events: "EventLog", every_s: float = EVERY_S
) -> None:
    """Publish `system.sampled` until canceled. Such events are not kept: who comes late reads `/system`."""
    while True:
        if events.readers:
            await _publish(system, settings, events)
        await anyio.sleep(every_s)


async def _publish(system: "System", settings: "SettingsStore", events: "EventLog") -> None:
    try:
        state = await anyio.to_thread.run_sync(system.sample, settings.current)
    except Exception:  # noqa: BLE001  a machine that cannot be looked at must not end the studio
        _log.exception("The machine cannot be sampled")
        return
    events.publish((TOPIC,), "system.sampled", state, kept=False)


@asynccontextmanager
async def feeding(system: "System", settings: "SettingsStore", events: "EventLog") -> AsyncIterator[None]:
    """Publish samples as long as the block lasts, and let go of the driver then."""
    async with task_group() as tasks:
        tasks.start_soon(feed, system, settings, events)
        yield
        tasks.cancel_scope.cancel()
    await anyio.to_thread.run_sync(system.close)
