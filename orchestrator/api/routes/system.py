"""The machine, and what is wrong with the installation."""

import anyio.to_thread

from orchestrator.api.calls import Call
from orchestrator.api.registry import Routes
from orchestrator.machine.doctor import Report
from orchestrator.machine.system import SystemState

routes = Routes("system")


@routes.get("/system")
async def read_system(call: Call) -> SystemState:
    """Read how the machine is now: processor, memory, disks and devices.

    The same comes every few seconds as the event `system.sampled` to who follows the topic `system`.
    """
    studio = call.studio
    return await anyio.to_thread.run_sync(studio.system.sample, studio.settings.current)


@routes.get("/system/doctor")
async def examine_system(call: Call) -> Report:
    """Find out what is installed, what works and what is wrong, with the command that mends it.

    A kernel is started for it, so it may take a while. What was found is good for a minute.
    """
    return await call.studio.doctor.report()
