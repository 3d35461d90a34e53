"""Looking into files of weights, on a kernel that does nothing else: no look waits for a job."""

import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
import msgspec

from contract.errors import KernelTimeout, NotReady
from contract.methods.inspect import InspectParams, InspectResult
from contract.rules.paths import to_wire
from orchestrator.groups import task_group
from orchestrator.jobs.keeper import Keeper
from orchestrator.jobs.machine import NO_GPU, kernel_opener
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from orchestrator.studio import Studio

#: Seconds that a look may take: to hash 20 GB from a slow disk.
LOOK_S: Final = 120.0
#: Looks beside each other; each reads a whole file.
_LOOKS: Final = 2
#: Seconds after which its kernel is ended when nobody looks.
_IDLE_S: Final = 60.0


class Inspector:
    """Made by `open_inspector`. `keeper` is None where no kernel is to be started."""

    def __init__(self, keeper: Keeper | None) -> None:
        self._keeper: Final = keeper
        self._places: Final = anyio.Semaphore(_LOOKS)
        #: The folders of the files that are looked into now.
        self._folders: Final[Counter[str]] = Counter()

    async def inspect(self, path: str, *, hashes: bool, norms: bool) -> InspectResult:
        """What a file is, its `file` as it was named. Raises what the kernel raises, NotReady and
        KernelTimeout after LOOK_S."""
        if self._keeper is None:
            raise NotReady("No studio runs, so nobody can look into it.", hint="`lorakeet inspect` can.")
        with anyio.move_on_after(LOOK_S):
            async with self._places:
                return await self._looked(self._keeper, path, hashes, norms)
        self._keeper.wear()
        raise KernelTimeout(
            f"Looking into the file took more than {LOOK_S:g} s.",
            where=to_wire(path),
            hint="Without `hashes` and `norms` only its header is read.",
        )

    async def _looked(self, keeper: Keeper, path: str, hashes: bool, norms: bool) -> InspectResult:
        real = await anyio.to_thread.run_sync(os.path.realpath, path)
        folder = to_wire(os.path.dirname(real))
        params = InspectParams(file=to_wire(real), hashes=hashes, norms=norms)
        async with keeper.kernel() as kernel:
            self._folders[folder] += 1
            try:
                await kernel.call("roots/set", {"roots": list(self._folders)})
                answer: InspectResult = await kernel.call(
                    "inspect", _without_ext(params), timeout_s=LOOK_S + 1
                )
                return answer
            finally:
                self._folders[folder] -= 1
                if not self._folders[folder]:
                    del self._folders[folder]


def _without_ext(params: InspectParams) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(params).items() if name != "ext"}


@asynccontextmanager
async def open_inspector(studio: "Studio", *, run: bool) -> AsyncIterator[Inspector]:
    """The inspector of a studio, whose kernel is started when it is wanted; unless `run`, it never is."""
    if not run:
        yield Inspector(None)
        return
    keeper = Keeper(
        kernel_opener(studio, NO_GPU, lambda said: None),
        studio.control,
        studio.boot.boot_id,
        lambda: min(_IDLE_S, studio.settings.current.kernel.idle_s),
        lambda: None,
    )

    def configure(settings: Settings) -> None:
        keeper.wear()
        keeper.reset()

    studio.settings.listen(configure)
    async with task_group() as tasks:
        tasks.start_soon(keeper.serve)
        yield Inspector(keeper)
        tasks.cancel_scope.cancel()
