"""The supervisor, with real kernels that are really killed."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from contract.errors import FileMissing, KernelDied, KernelUnavailable, OutOfMemory
from orchestrator.client import connect
from orchestrator.supervisor import RestartPolicy, Supervisor, supervise

pytestmark = pytest.mark.anyio

_KERNEL = [sys.executable, "-P", "-m", "kernel"]


async def _at_once(seconds: float) -> None:
    await anyio.lowlevel.checkpoint()


def test_pauses_grow_and_the_sixth_death_in_three_minutes_is_the_last() -> None:
    policy = RestartPolicy()
    assert [policy.died(now) for now in (0, 10, 20, 30, 40)] == [0.5, 1, 2, 4, 8]
    assert policy.died(50) is None


def test_old_deaths_are_forgotten() -> None:
    policy = RestartPolicy()
    for now in (0, 10, 20, 30, 40):
        policy.died(now)
    assert policy.died(500) == 0.5


async def _kill(supervisor: Supervisor) -> None:
    kernel = await supervisor.kernel()
    os.kill(kernel.pid, signal.SIGKILL)
    with anyio.fail_after(20):
        await kernel.died.wait()


async def test_a_killed_kernel_comes_back_as_another_instance() -> None:
    async with supervise(lambda: connect(_KERNEL), _at_once) as supervisor:
        first = (await supervisor.kernel()).info.kernel.instance_id
        await _kill(supervisor)
        with anyio.fail_after(20):
            while (kernel := await supervisor.kernel()).info.kernel.instance_id == first:
                await anyio.lowlevel.checkpoint()
        assert (await kernel.call("ping")).instance_id != first
        assert supervisor.restarts == 1


async def test_a_kernel_that_dies_at_every_start_is_given_up() -> None:
    dies = [sys.executable, "-c", "import sys; sys.exit('broken for good')"]
    async with supervise(lambda: connect(dies), _at_once) as supervisor:
        with anyio.fail_after(60), pytest.raises(KernelUnavailable, match="more than 5 times"):
            await supervisor.kernel()
        assert supervisor.restarts == 5


async def test_a_command_that_does_not_exist_is_not_tried_again() -> None:
    async with supervise(lambda: connect(["/does/not/exist"]), _at_once) as supervisor:
        with anyio.fail_after(20), pytest.raises(KernelUnavailable, match="/does/not/exist"):
            await supervisor.kernel()
        assert supervisor.restarts == 0


def _job(tmp_path: Path, demo_tagger: Path) -> dict[str, Any]:
    return {
        "job_id": "job_1",
        "v": 2,
        "inputs": {"images": [str(tmp_path / "a.jpg")]},
        "settings": {"model": {"path": str(demo_tagger)}},
    }


async def test_a_job_that_ran_out_of_memory_is_not_repeated_unchanged(
    tmp_path: Path, demo_tagger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel dies of SIGKILL while the machine's count of out-of-memory kills goes up."""
    counts = iter([0, 1])
    monkeypatch.setattr("orchestrator.supervisor.oom_kills", lambda: next(counts))
    dying = [sys.executable, "-P", str(Path(__file__).parent / "fake_kernel.py"), "dies"]
    job = _job(tmp_path, demo_tagger)
    async with supervise(lambda: connect(dying), _at_once) as supervisor:
        with anyio.fail_after(20), pytest.raises(KernelDied, match="SIGKILL"):
            await supervisor.run("tag", job)
        with anyio.fail_after(20), pytest.raises(OutOfMemory, match="before"):
            await supervisor.run("tag", {**job, "attempt": 2})


async def test_a_job_whose_kernel_was_merely_killed_may_be_repeated(
    tmp_path: Path, demo_tagger: Path
) -> None:
    dying = [sys.executable, "-P", str(Path(__file__).parent / "fake_kernel.py"), "dies"]
    starts = iter([dying, _KERNEL])
    job = _job(tmp_path, demo_tagger)
    roots = [str(tmp_path), str(demo_tagger)]
    async with supervise(lambda: connect(next(starts), roots=roots), _at_once) as supervisor:
        with anyio.fail_after(20), pytest.raises(KernelDied):
            await supervisor.run("tag", job)
        with anyio.fail_after(40):
            while supervisor.restarts == 0:
                await anyio.lowlevel.checkpoint()
            outcome = await supervisor.run("tag", job)
    assert outcome.failed[0].error.data.kind == FileMissing.kind
