"""After a studio that died: nothing of it runs any more, and no job says that it does."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.boot import Boot
from orchestrator.jobs import processes
from orchestrator.jobs.job import Job
from orchestrator.jobs.recovery import endings, recover
from orchestrator.jobs.states import ALIVE, Reason, State, is_legal
from orchestrator.jobs.table import Epoch, Overtaken, assign, current, move
from tests.orchestrator.jobs.deeds import KINDS, PATIENCE_S, Bench, open_bench

pytestmark = pytest.mark.anyio


@contextmanager
def _process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that leads a group of its own; killed in the end."""
    with subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def _sleeper() -> Any:
    return _process("-c", "import time; print('up', flush=True); time.sleep(600)")


@pytest.mark.parametrize("was_clean", [False, True])
@pytest.mark.parametrize("may_retry", [False, True])
def test_whatever_was_going_on_comes_to_an_end_that_the_table_knows(was_clean: bool, may_retry: bool) -> None:
    reasons: dict[State, tuple[Reason, ...]] = {
        "starting": ("assigned",),
        "running": ("kernel_started",),
        "canceling": ("cancel_requested", "pause_requested"),
        "interrupted": ("studio_stopped",),
    }
    for before, whys in reasons.items():
        for why in whys:
            state = before
            for after, reason in endings(state, why, was_clean=was_clean, may_retry=may_retry):
                assert is_legal(state, after, reason)
                state = after
            assert state not in ALIVE
            assert (state == "queued") == (may_retry and before != "canceling")


async def _made(bench: Bench, *states: tuple[State, Reason]) -> Job:
    """A job that an older boot has brought through these states."""
    job = await bench.start()

    def write(db: sqlite3.Connection) -> Job:
        now = assign(db, job.id, "fake:0", "boot_OLD")
        for state, reason in states:
            now = move(db, now, state, reason, "boot_OLD")
        return now

    return await bench.studio.control.write(write)


async def test_what_an_older_boot_left_is_settled_at_the_next(tmp_path: Path) -> None:
    async with open_bench(tmp_path, run=False) as bench:
        starting = await _made(bench)
        running = await _made(bench, ("running", "kernel_started"))
        canceling = await _made(bench, ("running", "kernel_started"), ("canceling", "cancel_requested"))
        pausing = await _made(bench, ("running", "kernel_started"), ("canceling", "pause_requested"))
        # A job that nobody has ever claimed, and still says that it runs.
        unclaimed = await _made(bench)
        await bench.studio.control.write(
            lambda db: db.execute("UPDATE jobs SET boot_id = NULL WHERE id = ?", (unclaimed.id,)) and None
        )
        # The mark of a clean end is what makes the difference.
        await _settle(bench, was_clean=False)
        for job in (starting, running, unclaimed):
            assert (await bench.history(job))[-2:] == [("interrupted", "studio_died"), ("queued", "retried")]
        assert (await bench.history(canceling))[-1] == ("canceled", "canceled")
        assert (await bench.history(pausing))[-1] == ("paused", "paused")


async def _settle(bench: Bench, *, was_clean: bool) -> None:
    boot = Boot(boot_id="boot_NEW", number=99, started_ms=0, was_clean=was_clean)
    await recover(bench.studio.control, boot, KINDS)


async def test_a_job_that_its_studio_dies_of_is_not_tried_for_ever(tmp_path: Path) -> None:
    async with open_bench(tmp_path, run=False) as bench:
        job = await bench.start()
        for _ in range(9):
            await bench.studio.control.write(lambda db: assign(db, job.id, "fake:0", "boot_OLD") and None)
            await _settle(bench, was_clean=False)
            if (await bench.studio.jobs.get(job.id)).state == "interrupted":
                break
        found = await bench.studio.jobs.get(job.id)
        assert (found.state, found.reason, found.attempt) == ("interrupted", "studio_died", 3)
        again = await bench.studio.jobs.retry(job.id)
        assert (again.state, again.attempt) == ("queued", 4)


async def test_clean_stops_are_not_counted(tmp_path: Path) -> None:
    async with open_bench(tmp_path, run=False) as bench:
        job = await bench.start()
        for _ in range(9):
            await bench.studio.control.write(lambda db: assign(db, job.id, "fake:0", "boot_OLD") and None)
            await _settle(bench, was_clean=True)
        found = await bench.studio.jobs.get(job.id)
        assert (found.state, found.reason, found.attempt) == ("queued", "requeued", 10)


async def test_an_attempt_that_was_overtaken_writes_nothing(tmp_path: Path) -> None:
    async with open_bench(tmp_path, run=False) as bench:
        job = await _made(bench, ("running", "kernel_started"))
        old = Epoch("boot_OLD", job.run_epoch)
        assert (await bench.studio.control.read(lambda db: current(db, job.id, old))).id == job.id
        await _settle(bench, was_clean=False)
        with pytest.raises(Overtaken):
            await bench.studio.control.read(lambda db: current(db, job.id, old))
        await bench.studio.control.write(lambda db: assign(db, job.id, "fake:0", "boot_OLD") and None)
        with pytest.raises(Overtaken):
            await bench.studio.control.read(lambda db: current(db, job.id, old))


async def test_a_process_that_outlived_its_studio_is_ended(tmp_path: Path) -> None:
    with _sleeper() as running:
        running.stdout.readline()
        async with open_bench(tmp_path, run=False) as bench:
            known = processes.look(running.pid)
            assert known is not None
            await processes.record(bench.studio.control, known, "boot_OLD", "kernel")
        async with open_bench(tmp_path, run=False) as bench:
            assert processes.look(running.pid) is None
            assert await bench.studio.control.read(_processes) == []
        assert running.wait(PATIENCE_S) == -signal.SIGKILL


async def test_a_stranger_that_has_got_the_number_of_a_kernel_is_left_alone(tmp_path: Path) -> None:
    with _sleeper() as running:
        running.stdout.readline()
        async with open_bench(tmp_path, run=False) as bench:
            known = processes.look(running.pid)
            assert known is not None
            stranger = known._replace(created=known.created - 1)
            await processes.record(bench.studio.control, stranger, "boot_OLD", "kernel")
        async with open_bench(tmp_path, run=False) as bench:
            assert processes.look(running.pid) == known
            assert await bench.studio.control.read(_processes) == []


async def test_what_has_ended_is_no_process(tmp_path: Path) -> None:
    with _process("-c", "") as running:
        # A zombie until somebody asks for it.
        with anyio.fail_after(PATIENCE_S):
            while processes.look(running.pid) is not None:
                await anyio.lowlevel.checkpoint()
        assert running.wait(PATIENCE_S) == 0


def _processes(db: sqlite3.Connection) -> list[int]:
    return [row["pid"] for row in db.execute("SELECT pid FROM processes")]


async def test_a_kernel_is_written_down_while_it_runs(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        job = await bench.start(deed="wait")
        await bench.until(job, "running")
        pid = bench.studio.queue.lane("fake:0").view().kernel_pid
        assert await bench.studio.control.read(_processes) == [pid]
    async with open_bench(tmp_path, run=False) as bench:
        assert await bench.studio.control.read(_processes) == []


@pytest.mark.parametrize("deed", ["wait", "stop"])
async def test_a_studio_that_was_killed_leaves_no_kernel_and_its_jobs_go_on(
    tmp_path: Path, deed: str
) -> None:
    """The kernel of the second case is stopped: it does not hear that its studio is gone."""
    arguments = ("-m", "tests.orchestrator.jobs.studio_to_kill", str(tmp_path), deed)
    with _process(*arguments) as running:
        assert running.stdout is not None
        job_id, waiting_id = running.stdout.readline().split()
        running.kill()
        running.wait(PATIENCE_S)
        async with open_bench(tmp_path) as bench:
            pids = [int(pid) for _, _, pid in bench.journal()]
            job, waiting = await bench.studio.jobs.get(job_id), await bench.studio.jobs.get(waiting_id)
            assert ("interrupted", "studio_died") in await bench.history(job)
            bench.go(job)
            assert (await bench.until(job)).attempt == 2
            assert (await bench.until(waiting)).state == "succeeded"
            assert "OVERLAP" not in str(bench.journal())
            with anyio.fail_after(PATIENCE_S):
                while any(processes.look(pid) for pid in pids):
                    await anyio.lowlevel.checkpoint()


async def test_who_comes_back_to_the_events_hears_of_jobs_that_recovery_has_changed(tmp_path: Path) -> None:
    async with open_bench(tmp_path, run=False) as bench:
        await bench.studio.events.flush()
        seen = bench.studio.events.last_id
        job = await _made(bench, ("running", "kernel_started"))
        bench.studio.events.publish(("models",), "models.changed", {})
    async with open_bench(tmp_path, run=False) as bench:
        stream = bench.studio.events.follow(["jobs"], seen)
        told = b""
        with anyio.fail_after(PATIENCE_S):
            async for chunk in stream:
                told += chunk
                if b'"reason":"requeued"' in told or b'"reason":"retried"' in told:
                    break
        await stream.aclose()
        assert job.id.encode() in told


async def test_a_kernel_goes_with_its_studio_even_if_it_is_in_a_job(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        job = await bench.start(deed="wait")
        await bench.until(job, "running")
        pid = bench.studio.queue.lane("fake:0").view().kernel_pid
        assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
