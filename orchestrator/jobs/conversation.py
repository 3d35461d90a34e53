"""What is said between an attempt and its kernel while the job runs: the request, what comes of it, whether
the kernel still listens, and that it is to stop."""

import os
from typing import TYPE_CHECKING, Any, Final

import anyio

from contract.errors import (
    DeviceLost,
    KernelDied,
    KernelTimeout,
    LorakeetError,
    OutOfMemory,
    PathNotAbsolute,
    StateConflict,
    UnknownJob,
)
from contract.notifications import Artifact, Log, Partial, Progress
from contract.rules.paths import from_wire, is_under
from orchestrator.groups import task_group
from orchestrator.hosting.client import CANCEL_S, KernelClient
from orchestrator.hosting.restarts import oom_kills, was_memory
from orchestrator.jobs.keeper import Keeper
from orchestrator.jobs.requests import kernel_request
from orchestrator.jobs.work import KernelWork, Prepared

if TYPE_CHECKING:
    from orchestrator.jobs.attempt import Attempt

#: Seconds between two looks whether a kernel that works still listens, and for its answer. A kernel's reader
#: waits for nothing: one that is silent twice, for 30 seconds in all, is stopped or stuck.
PING_S: Final = 15.0
PONG_S: Final = 7.5
_SILENCES: Final = 2


class Conversation:
    """About one attempt, on one kernel. `wish` is set when the attempt is to end, `hurry` when that is to be
    at once."""

    def __init__(
        self,
        attempt: "Attempt",
        kernel: KernelClient,
        keeper: Keeper,
        wish: anyio.Event,
        hurry: anyio.Event,
    ) -> None:
        self._attempt: Final = attempt
        self._kernel: Final = kernel
        self._keeper: Final = keeper
        self._wish: Final = wish
        self._hurry: Final = hurry
        self._was_silent = False

    async def grant(self, roots: list[str]) -> None:
        """Let the kernel use these folders and no others. Raises KernelDied and KernelTimeout."""
        try:
            await self._kernel.call("roots/set", {"roots": roots})
        except KernelTimeout:
            self._kernel.kill()
            raise

    async def order(self, action: str) -> None:
        """Give the job an order. Raises StateConflict where the kernel does not work on it now."""
        try:
            await self._kernel.call("control", {"job_id": self._attempt.job.id, "action": action})
        except (UnknownJob, KernelDied, KernelTimeout):
            raise StateConflict(
                "The job has not begun yet, or is just ending.", where=self._attempt.job.id
            ) from None

    async def hold(self, work: KernelWork, prepared: Prepared) -> Any:
        """Have the job done; its outcome. Raises what the kernel and `work` raised, and KernelDied."""
        kills = oom_kills()
        try:
            async with task_group() as tasks:
                tasks.start_soon(self._listen_for_life)
                tasks.start_soon(self._stop_on_wish)
                outcome = await self._kernel.run(
                    work.method,
                    kernel_request(self._attempt.job, work, prepared),
                    lambda _, said: self._take(work, prepared, said),
                )
                tasks.cancel_scope.cancel()
            return outcome
        except (OutOfMemory, DeviceLost):
            self._keeper.wear()
            raise
        except KernelDied as death:
            if self._was_silent:
                raise _silent(death) from None
            if was_memory(death, kills):
                raise _out_of_memory(death) from None
            raise

    def _take(self, work: KernelWork, prepared: Prepared, said: Any) -> None:
        """The sink of the job: whatever its kernel says of it."""
        reporter = self._attempt.reporter
        match said:
            case Progress():
                reporter.progress(said)
            case Log():
                reporter.line(said.level, said.logger, said.message, said.dropped)
            case Partial():
                work.take(self._attempt, said)
            case Artifact() if _is_granted(said.path, [*prepared.roots, str(self._attempt.folder)]):
                reporter.artifact(said)
            case Artifact():
                reporter.line(
                    "warning", "studio", f"A file outside of the job's folders is left out: {said.path}"
                )

    async def _listen_for_life(self) -> None:
        silences = 0
        while silences < _SILENCES:
            # The second one at once: the first may have been lost with a line that was broken.
            await anyio.sleep(0 if silences else PING_S)
            try:
                await self._kernel.call("ping", timeout_s=PONG_S)
                silences = 0
            except KernelTimeout:
                silences += 1
            except LorakeetError:
                return
        self._was_silent = True
        self._kernel.kill()

    async def _stop_on_wish(self) -> None:
        """Ask, wait, insist. The end of the job ends this, too."""
        await self._wish.wait()
        with anyio.move_on_after(CANCEL_S):
            try:
                if not self._hurry.is_set():
                    await self._kernel.cancel(self._attempt.job.id)
                await self._hurry.wait()
                await self._kernel.cancel(self._attempt.job.id, "now")
                await anyio.sleep_forever()
            except LorakeetError:
                pass
        self._kernel.kill()


def _is_granted(path: str, roots: list[str]) -> bool:
    try:
        plain = os.path.normpath(from_wire(path))
    except PathNotAbsolute:
        return False
    return any(is_under(plain, from_wire(root)) for root in roots)


def _silent(death: KernelDied) -> KernelDied:
    return KernelDied(
        f"The kernel did not answer for {PING_S + _SILENCES * PONG_S:g} s and was ended.",
        details=death.details,
        hint=death.hint,
    )


def _out_of_memory(death: KernelDied) -> OutOfMemory:
    return OutOfMemory(
        "The system ended the kernel because memory ran out.", details=death.details, hint=MAKE_SMALLER
    )


#: What helps.
MAKE_SMALLER: Final = "Make it smaller: a lower batch size or resolution, or another device."
