"""The pool with real processes: what they answer, when they start and end, and what if they do not."""

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

from contract.errors import (
    ImageInvalid,
    InternalError,
    NotReady,
    OutOfMemory,
    WorkerDied,
    WorkerTimeout,
)
from orchestrator.groups import task_group
from orchestrator.workers.limits import WorkerLimits
from orchestrator.workers.pool import WorkerPool
from orchestrator.workers.tasks import SCAN, ScanArguments
from tests.orchestrator.workers.ends import PATIENCE_S, ended, needs_linux
from tests.orchestrator.workers.odd_worker import COMMAND, DEED, Deed

pytestmark = pytest.mark.anyio
posix = pytest.mark.skipif(sys.platform == "win32", reason="there are no FIFOs, signals and limits")


def odd_pool(size: int = 1, **limits: Any) -> WorkerPool:
    return WorkerPool(size, WorkerLimits(**limits), COMMAND)


async def do(pool: WorkerPool, name: str, argument: Any = None, **options: Any) -> Any:
    return (await pool.run(DEED, Deed(name=name, argument=argument), **options)).said


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    if sys.platform != "win32":
        os.mkfifo(path)
    return path


async def begun(fifo: Path) -> None:
    """Return once a task says so."""
    with anyio.fail_after(PATIENCE_S):
        assert await to_thread.run_sync(fifo.read_text, abandon_on_cancel=True) == "begun"


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE_S):
        while not condition():
            await anyio.lowlevel.checkpoint()


async def test_a_task_runs_in_a_process_that_starts_when_it_is_needed_and_is_used_again() -> None:
    async with odd_pool(2) as pool:
        assert pool.pids() == []
        assert await do(pool, "say", "first") == "first"
        (pid,) = pool.pids()
        assert pid != os.getpid()
        assert await do(pool, "say", {"ä": [1, None]}) == {"ä": [1, None]}
        assert pool.pids() == [pid]


async def test_the_shipped_worker_answers() -> None:
    async with WorkerPool() as pool:
        assert (await pool.run(SCAN, ScanArguments(root="/", paths=[]))).files == []


async def test_never_more_workers_than_the_pool_may_have() -> None:
    async def count(pool: WorkerPool) -> None:
        await do(pool, "say")
        assert len(pool.pids()) == 2

    async with odd_pool(2) as pool:
        async with task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(do, pool, "say")
        async with task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(count, pool)


async def test_the_error_of_a_task_is_raised_as_what_it_was() -> None:
    async with odd_pool() as pool:
        with pytest.raises(ImageInvalid, match="It is no picture") as caught:
            await do(pool, "refuse", "/a.png")
        error = caught.value
        assert (error.where, error.hint, error.details) == ("/a.png", "Look again.", {"n": 1})


async def test_a_foreign_exception_is_a_bug_whose_words_do_not_travel() -> None:
    async with odd_pool() as pool:
        with pytest.raises(InternalError) as caught:
            await do(pool, "stumble", "the password is swordfish")
        assert caught.value.trace_id
        assert "swordfish" not in repr(caught.value.to_wire())
        assert await do(pool, "say", "still here") == "still here"


async def test_what_a_task_prints_is_no_answer() -> None:
    async with odd_pool() as pool:
        await do(pool, "print", '{"id": 2, "result": {"said": "lies"}}\n' * 1000)
        assert await do(pool, "say", "truth") == "truth"


@posix
@pytest.mark.parametrize(
    "line",
    [
        "no JSON",
        '{"id": 1, "result": {}}',
        '{"id": 2}',
        '{"id": 2, "result": 1, "error": 1}',
        '{"id": 2, "result": [1]}',
    ],
)
async def test_a_worker_that_says_what_is_no_answer_is_ended(line: str) -> None:
    async with odd_pool() as pool:
        with pytest.raises(WorkerDied, match="no answer"):
            await do(pool, "lie", line)
        assert await do(pool, "say", "next") == "next"


async def test_workers_end_when_the_pool_closes() -> None:
    async with odd_pool(2) as pool:
        await do(pool, "say")
        pids = pool.pids()
    assert pool.pids() == []
    for pid in pids:
        await ended(pid)
    with pytest.raises(NotReady):
        await do(pool, "say")


@posix
async def test_a_pool_that_closes_does_not_wait_for_its_tasks(fifo: Path) -> None:
    async def refused(pool: WorkerPool) -> None:
        with pytest.raises(NotReady):
            await do(pool, "begin", str(fifo))

    async with task_group() as tasks:
        with anyio.fail_after(PATIENCE_S):
            async with odd_pool() as pool:
                tasks.start_soon(refused, pool)
                tasks.start_soon(refused, pool)
                await begun(fifo)
                (pid,) = pool.pids()
        await ended(pid)


async def test_an_error_leaves_the_block_of_a_pool_as_itself() -> None:
    with pytest.raises(ZeroDivisionError):
        async with odd_pool() as pool:
            await do(pool, "say")
            raise ZeroDivisionError


async def test_a_worker_without_work_ends_after_a_while() -> None:
    async with odd_pool(idle_s=0.05) as pool:
        await do(pool, "say")
        (pid,) = pool.pids()
        await until(lambda: pool.pids() == [])
        await ended(pid)
        assert await do(pool, "say", "again") == "again"


async def test_a_worker_is_replaced_after_its_share_of_tasks() -> None:
    # One of the three is the first of all, which sets its limits.
    async with odd_pool(tasks=3) as pool:
        await do(pool, "say")
        (first,) = pool.pids()
        await do(pool, "say")
        assert pool.pids() == []
        await do(pool, "say")
        assert pool.pids() != [first]


@posix
async def test_a_task_that_takes_too_long_is_ended_with_its_worker(fifo: Path) -> None:
    """Nobody reads the FIFO, so the task waits in the system for ever."""
    async with odd_pool() as pool:
        await do(pool, "say")
        (pid,) = pool.pids()
        with pytest.raises(WorkerTimeout) as caught:
            await do(pool, "begin", str(fifo), timeout_s=0.3)
        assert caught.value.details == {"task": "deed", "timeout_s": 0.3}
        await ended(pid)
        assert await do(pool, "say", "next") == "next"


@posix
async def test_a_worker_that_was_stopped_is_ended() -> None:
    async with odd_pool(task_s=0.3) as pool:
        await do(pool, "say")
        (pid,) = pool.pids()
        with pytest.raises(WorkerTimeout):
            await do(pool, "stop")
        await ended(pid)
        assert await do(pool, "say", "next", timeout_s=PATIENCE_S) == "next"


@posix
async def test_a_worker_that_is_killed_in_the_middle_of_a_task_is_replaced(fifo: Path) -> None:
    async with odd_pool() as pool, task_group() as tasks:

        async def die() -> None:
            with pytest.raises(WorkerDied) as caught:
                await do(pool, "begin", str(fifo))
            assert caught.value.retryable
            assert caught.value.details["signal"] == "SIGKILL"

        tasks.start_soon(die)
        await begun(fifo)
        (pid,) = pool.pids()
        os.kill(pid, signal.SIGKILL)
        assert await do(pool, "say", "next") == "next"
        await ended(pid)
        assert pool.pids() != [pid]


@posix
async def test_a_worker_that_died_while_it_was_idle_is_not_missed() -> None:
    async with odd_pool() as pool:
        await do(pool, "say")
        (pid,) = pool.pids()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: pool.pids() == [])
        assert await do(pool, "say", "next") == "next"


@posix
async def test_a_death_tells_the_last_words() -> None:
    async with odd_pool() as pool:
        with pytest.raises(WorkerDied, match="SIGSEGV") as caught:
            await do(pool, "kill", signal.SIGSEGV)
        assert "these are my last words" in caught.value.details["stderr_tail"]
        with pytest.raises(WorkerDied, match="exit code 7"):
            await do(pool, "exit", 7)


async def test_a_worker_that_cannot_be_started_has_died() -> None:
    async with WorkerPool(command=["no-such-program"]) as pool:
        with pytest.raises(WorkerDied, match="cannot be started"):
            await do(pool, "say")
    async with WorkerPool(command=[sys.executable, "-c", "raise SystemExit(3)"]) as pool:
        with pytest.raises(WorkerDied, match="exit code 3"):
            await do(pool, "say")


async def test_a_worker_that_never_answers_at_all_is_given_up() -> None:
    silent = [sys.executable, "-c", "import threading; threading.Event().wait()"]
    async with WorkerPool(limits=WorkerLimits(start_s=0.3), command=silent) as pool:
        with pytest.raises(WorkerTimeout):
            await do(pool, "say")
        assert pool.pids() == []


@needs_linux
async def test_a_task_that_wants_too_much_memory_fails_and_its_worker_is_replaced() -> None:
    async with odd_pool(memory_bytes=200 << 20) as pool:
        assert await do(pool, "hoard", 150 << 20) == 150 << 20
        (pid,) = pool.pids()
        with pytest.raises(OutOfMemory):
            await do(pool, "hoard", 250 << 20)
        await ended(pid)
        assert await do(pool, "hoard", 150 << 20) == 150 << 20


@needs_linux
async def test_a_worker_is_nice_dumps_no_core_and_knows_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORAKEET_TOKEN", "swordfish")
    monkeypatch.setenv("HF_TOKEN", "swordfish")
    async with odd_pool() as pool:
        state = await do(pool, "state")
    assert state["nice"] == min(19, os.nice(0) + 5)
    assert state["core"] == 0
    assert state["stdin"] == "/dev/null"
    assert "swordfish" not in repr(state)


@posix
async def test_a_canceled_task_that_does_not_end_takes_its_worker_along(fifo: Path) -> None:
    async with odd_pool() as pool:
        async with task_group() as tasks:
            tasks.start_soon(do, pool, "begin", str(fifo))
            await begun(fifo)
            (pid,) = pool.pids()
            tasks.cancel_scope.cancel()
        await ended(pid)
        assert await do(pool, "say", "next") == "next"


@posix
async def test_a_canceled_task_that_ends_at_once_leaves_its_worker_alive(fifo: Path) -> None:
    async with odd_pool() as pool:
        await do(pool, "say")
        before = pool.pids()
        async with task_group() as tasks:
            tasks.start_soon(do, pool, "finish", str(fifo))
            # The task ends as soon as this has read; its answer is on its way.
            await begun(fifo)
            tasks.cancel_scope.cancel()
        assert await do(pool, "say", "next") == "next"
        assert pool.pids() == before


@posix
async def test_who_waits_and_is_canceled_costs_no_worker(fifo: Path) -> None:
    async def impatient(pool: WorkerPool, wait: Callable[[], Awaitable[Any]]) -> None:
        with anyio.move_on_after(0):
            await wait()

    async with odd_pool() as pool, task_group() as tasks:
        tasks.start_soon(do, pool, "begin", str(fifo))
        await begun(fifo)
        before = pool.pids()
        await impatient(pool, lambda: do(pool, "say"))
        assert pool.pids() == before
        tasks.cancel_scope.cancel()


PARENT = """
import sys
import anyio
from orchestrator.workers.pool import WorkerPool
from tests.orchestrator.workers.odd_worker import COMMAND, DEED, Deed

async def main() -> None:
    async with WorkerPool(2, command=COMMAND) as pool, anyio.create_task_group() as tasks:
        for fifo in sys.argv[1:]:
            tasks.start_soon(pool.run, DEED, Deed(name="begin", argument=fifo))
        while len(pool.pids()) < 2:
            await anyio.lowlevel.checkpoint()
        sys.stdout.write(" ".join(map(str, pool.pids())) + chr(10))
        sys.stdout.flush()

anyio.run(main)
"""


@needs_linux
async def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path, fifo: Path) -> None:
    other = tmp_path / "other"
    if sys.platform != "win32":
        os.mkfifo(other)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = await anyio.open_process(
        [sys.executable, "-c", PARENT, str(fifo), str(other)], env=environment, stderr=None
    )
    async with parent:
        assert parent.stdout is not None
        with anyio.fail_after(PATIENCE_S):
            pids = [int(pid) for pid in (await parent.stdout.receive()).split()]
        await begun(fifo)
        await begun(other)
        parent.kill()
        for pid in pids:
            await ended(pid)
