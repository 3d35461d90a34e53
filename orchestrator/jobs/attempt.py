"""One attempt of one job, from the lane that took it to the state in which it ended.

It is the `Run` that its work is given. It settles itself: whatever its work or its kernel does, the table
says in the end how it was; where the disk is full, as soon as it is not.
"""

import logging
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
import msgspec

from contract.errors import InternalError, JobCanceled, LorakeetError, StateConflict
from contract.notifications import LogLevel, Progress
from orchestrator.files.durable import unwritten
from orchestrator.groups import task_group
from orchestrator.jobs import artifacts
from orchestrator.jobs.conversation import Conversation
from orchestrator.jobs.endings import NoKernel, ending
from orchestrator.jobs.job import Job
from orchestrator.jobs.keeper import Keeper
from orchestrator.jobs.kinds import Kind
from orchestrator.jobs.ledger import Ledger
from orchestrator.jobs.reporter import Reporter
from orchestrator.jobs.table import Epoch, Overtaken, automatic_attempts, current, move
from orchestrator.jobs.work import KernelWork, Prepared, StudioWork

if TYPE_CHECKING:
    from orchestrator.studio import Studio

#: Seconds between two tries to write down how an attempt ended.
SETTLE_S: Final = 1.0

_logger = logging.getLogger("lorakeet.jobs")


class Attempt:
    """See `work.Run`."""

    def __init__(self, studio: "Studio", ledger: Ledger, kind: Kind, job: Job) -> None:
        assert job.boot_id is not None
        self.studio: Final = studio
        self.job: Final = job
        self.folder: Final = studio.home / "runs" / job.id
        self.reporter: Final = Reporter(
            studio, job, self.folder, studio.keys.redactor.text, measures=kind.measures
        )
        self._ledger: Final = ledger
        self.kind: Final = kind
        self._epoch: Final = Epoch(job.boot_id, job.run_epoch)
        self._wish: Final = anyio.Event()
        self._hurry: Final = anyio.Event()
        self._scope: anyio.CancelScope | None = None
        self._conversation: Conversation | None = None
        self._is_stopping = False
        self._outcome: Any = None

    def progress(
        self,
        phase: str,
        step: int,
        total: int | None,
        *,
        unit: str = "items",
        rate: float | None = None,
        eta_s: float | None = None,
        metrics: Mapping[str, float] | None = None,
        message: str | None = None,
    ) -> None:
        """See `Run`."""
        said = Progress(
            job_id=self.job.id,
            phase=phase,
            step=step,
            total=total,
            unit=unit,
            rate=rate,
            eta_s=eta_s,
            metrics=dict(metrics or {}),
            message=message,
        )
        self.reporter.progress(said)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """See `Run`."""
        self.reporter.measured(step, values)

    def log(self, level: LogLevel, message: str) -> None:
        """See `Run`."""
        self.reporter.line(level, self.job.kind, message)

    def publish(self, name: str, data: Any) -> None:
        """See `Run`."""
        self.reporter.publish(name, data)

    async def artifact(self, role: str, path: Path, media_type: str) -> None:
        """See `Run`."""
        await self.reporter.keep(await artifacts.described(self.job.id, role, path, media_type))

    def end(self, *, is_stopping: bool = False, now: bool = False) -> None:
        """Bring it to its end; the table says what for. `is_stopping`: the studio is. `now`: without what a
        later attempt would go on from."""
        self._is_stopping |= is_stopping
        if now:
            self._hurry.set()
        self._wish.set()
        if self._scope is not None:
            self._scope.cancel()

    async def order(self, action: str) -> None:
        """Pass an order on to its kernel. Raises StateConflict where none works on it now."""
        if self._conversation is None:
            raise StateConflict("The job has not begun yet, or is just ending.", where=self.job.id)
        await self._conversation.order(action)

    async def carry_out(self, keeper: Keeper | None) -> None:
        """Do it, on the kernel of `keeper` or none, and settle it."""
        error: Exception | None = None
        async with task_group() as tasks:
            tasks.start_soon(self.reporter.serve)
            try:
                await self._work(keeper)
            except (LorakeetError, NoKernel) as known:
                error = known
            except Exception:  # noqa: BLE001  the top of an attempt
                error = self._bug()
            tasks.cancel_scope.cancel()
        await self._settle(error)

    async def _work(self, keeper: Keeper | None) -> None:
        await anyio.to_thread.run_sync(_make, self.folder)
        work: Any = self.kind.work()
        if keeper is None:
            await self._in_the_studio(work)
        else:
            await self._with_a_kernel(work, keeper)

    async def _in_the_studio(self, work: StudioWork) -> None:
        await self._begin()
        with self._interruptible():
            self._outcome = msgspec.to_builtins(await work.run(self))

    async def _with_a_kernel(self, work: KernelWork, keeper: Keeper) -> None:
        with self._interruptible():
            prepared = await work.prepare(self)
        said = None
        try:
            if prepared is None:
                await self._begin()
            else:
                said = await self._on_a_kernel(work, prepared, keeper)
        except Exception as error:
            so_far = error.partial if isinstance(error, JobCanceled) else None
            with suppress(LorakeetError):
                self._outcome = msgspec.to_builtins(await work.finish(self, so_far))
            raise
        self._outcome = msgspec.to_builtins(await work.finish(self, said))

    async def _on_a_kernel(self, work: KernelWork, prepared: Prepared, keeper: Keeper) -> Any:
        async with AsyncExitStack() as stack:
            with self._interruptible():
                try:
                    kernel = await stack.enter_async_context(keeper.kernel())
                except LorakeetError as error:
                    raise NoKernel(error) from error
                conversation = Conversation(self, kernel, keeper, self._wish, self._hurry)
                await conversation.grant(prepared.roots)
            await self._begin()
            self._conversation = conversation
            try:
                return await conversation.hold(work, prepared)
            finally:
                self._conversation = None

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Raises JobCanceled as soon as the attempt is to end."""
        with anyio.CancelScope() as scope:
            self._scope = scope
            if self._wish.is_set():
                scope.cancel()
            try:
                yield
            finally:
                self._scope = None
        if scope.cancelled_caught:
            raise JobCanceled("It was ended before it began.")

    async def _begin(self) -> None:
        """From `starting` to `running`. Raises JobCanceled where somebody was faster."""

        def begin(db: sqlite3.Connection) -> list[Job]:
            job = current(db, self.job.id, self._epoch)
            if job.state != "starting" or self._is_stopping:
                raise JobCanceled("It was ended before it began.")
            return [move(db, job, "running", "kernel_started", self._ledger.boot_id)]

        await self._ledger.change(begin)

    async def _settle(self, error: Exception | None) -> None:
        while True:
            try:
                await self.reporter.close()
                await self._ledger.change(lambda db: self._settled(db, error))
                return
            except Overtaken:
                return
            except LorakeetError:
                await anyio.sleep(SETTLE_S)

    def _settled(self, db: sqlite3.Connection, error: Exception | None) -> list[Job]:
        job = current(db, self.job.id, self._epoch)
        used = automatic_attempts(db, job.id)
        how = ending(
            job.state, job.reason, error, is_stopping=self._is_stopping, retries=self.kind.retries, used=used
        )
        wire = None if how.state in ("succeeded", "canceled", "paused") else _wire(error)
        boot_id = self._ledger.boot_id
        kept = {"outcome": self._redacted(self._outcome), "error": self._redacted(wire)}
        settled = move(db, job, how.state, how.reason, boot_id, **kept)
        return [settled, move(db, settled, "queued", "retried", boot_id)] if how.again else [settled]

    def _redacted(self, said: Any) -> Any:
        """A kernel's last words may have a key in them."""
        return self.studio.keys.redactor.tree(said)

    def _bug(self) -> LorakeetError:
        """Of the exception that is being handled; its traceback stays in the studio's log."""
        trace_id = secrets.token_hex(8)
        _logger.exception("job %s failed, trace %s", self.job.id, trace_id)
        return InternalError("The job met a bug of Lorakeet; the studio's log says more.", trace_id=trace_id)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise unwritten(error, folder) from error


def _wire(error: Exception | None) -> Any:
    known = error.error if isinstance(error, NoKernel) else error
    return msgspec.to_builtins(known.to_wire()) if isinstance(known, LorakeetError) else None
