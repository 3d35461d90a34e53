"""The client, with real kernels and with programs that only claim to be one."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from contract.errors import (
    InvalidParams,
    JobCanceled,
    KernelDied,
    KernelFault,
    KernelTimeout,
    KernelUnavailable,
    LevelUnsupported,
    LineTooLong,
    LorakeetError,
    PathOutsideRoots,
)
from contract.handshake import LimitsWanted
from contract.methods.tag import TagOutcome
from orchestrator.hosting.client import connect
from tests.orchestrator.cli.conftest import SHIPPED

pytestmark = pytest.mark.anyio

_KERNEL = [sys.executable, "-P", "-m", "kernel"]
_PHOTOGRAPH = SHIPPED / "rocket.jpg"


def _job(demo_tagger: Path, *, count: int = 1, job_id: str = "job_1", batch_size: int = 1) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "v": 2,
        "inputs": {"images": [str(_PHOTOGRAPH)] * count},
        "settings": {"model": {"path": str(demo_tagger)}, "batch_size": batch_size},
    }


def _roots(demo_tagger: Path) -> list[str]:
    return [str(SHIPPED), str(demo_tagger)]


def _python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def _fake(deed: str) -> list[str]:
    return [sys.executable, "-P", str(Path(__file__).parent / "fake_kernel.py"), deed]


async def test_a_job_runs_and_its_sink_gets_everything_in_order(demo_tagger: Path) -> None:
    said: list[tuple[str, Any]] = []
    async with connect(_KERNEL, roots=_roots(demo_tagger)) as kernel:
        job = _job(demo_tagger, count=5)
        outcome = await kernel.run("tag", job, lambda *message: said.append(message))
    assert isinstance(outcome, TagOutcome) and outcome.tagged == 5
    items = [item["index"] for method, params in said if method == "partial" for item in params.items]
    assert items == [0, 1, 2, 3, 4]
    numbers = [params.seq for _, params in said]
    assert numbers == sorted(numbers)
    assert kernel.stray == 0


async def test_what_the_kernel_raises_is_raised_as_the_same_class(demo_tagger: Path) -> None:
    async with connect(_KERNEL) as kernel:
        with pytest.raises(PathOutsideRoots) as outside:
            await kernel.run("tag", _job(demo_tagger))
        assert outside.value.where == "$.params.inputs.images[0]"
        with pytest.raises(InvalidParams) as invalid:
            await kernel.call("ping", {"echo": 5})
        assert invalid.value.where == "$.params.echo"


_TELLS_WHAT_IT_WAS_SENT = """
import json, sys
sent = json.loads(sys.stdin.readline())
kernel = {"name": json.dumps(sent["params"]), "version": "0", "instance_id": "x", "pid": 1}
agreed = {"level": 1, "compatible": 1, "kernel": kernel, "methods": {}, "capabilities": {}, "limits": {}}
print(json.dumps({"jsonrpc": "2.0", "id": sent["id"], "result": agreed}), flush=True)
sys.stdin.read()
"""


def _shown_of_process(pid: int) -> bytes:
    """What others see of a process, where there is such a place."""
    files = [Path(f"/proc/{pid}/{name}") for name in ("cmdline", "environ")]
    return b"".join(file.read_bytes() for file in files if file.exists())


async def test_keys_are_sent_in_the_handshake_and_stand_in_no_list_of_processes() -> None:
    async with connect(_python(_TELLS_WHAT_IT_WAS_SENT), keys={"huggingface": "hf_canary"}) as kernel:
        assert json.loads(kernel.info.kernel.name)["keys"] == {"huggingface": "hf_canary"}
        assert b"hf_canary" not in _shown_of_process(kernel.pid)


async def test_a_kernel_that_knows_no_keys_is_not_troubled_with_their_absence() -> None:
    async with connect(_python(_TELLS_WHAT_IT_WAS_SENT)) as kernel:
        assert "keys" not in json.loads(kernel.info.kernel.name)


async def test_leaving_the_block_ends_the_kernel() -> None:
    async with connect(_KERNEL) as kernel:
        pid = kernel.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_an_error_inside_the_block_leaves_it_as_itself() -> None:
    with pytest.raises(ZeroDivisionError):
        async with connect(_KERNEL):
            raise ZeroDivisionError


async def test_a_killed_kernel_fails_every_pending_call_with_its_last_words(demo_tagger: Path) -> None:
    noisy = _python(
        "import os, sys; sys.stderr.write('last words'); sys.stderr.flush(); "
        "os.execv(sys.executable, [sys.executable, '-P', '-m', 'kernel'])"
    )
    errors: list[KernelDied] = []
    async with connect(noisy, roots=_roots(demo_tagger)) as kernel:

        async def pending(job_id: str) -> None:
            with pytest.raises(KernelDied) as caught:
                await kernel.run("tag", _job(demo_tagger, count=900, job_id=job_id), kill)
            errors.append(caught.value)

        def kill(method: str, params: Any) -> None:
            if method == "partial":
                os.kill(kernel.pid, signal.SIGKILL)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pending, "job_1")
        with pytest.raises(KernelDied):
            await kernel.call("ping")
    (error,) = errors
    assert error.details["signal"] == "SIGKILL"
    assert "last words" in error.details["stderr_tail"]


async def test_a_canceled_run_cancels_its_job_and_the_kernel_lives_on(demo_tagger: Path) -> None:
    async with connect(_KERNEL, roots=_roots(demo_tagger)) as kernel:
        with anyio.CancelScope() as scope:
            await kernel.run(
                "tag",
                _job(demo_tagger, count=900),
                lambda method, _: scope.cancel() if method == "partial" else None,
            )
        assert scope.cancelled_caught
        record = await kernel.call("job/get", {"job_id": "job_1"})
        assert record.state == "canceled"
        assert (await kernel.run("tag", _job(demo_tagger, job_id="job_2"))).tagged == 1


async def test_a_job_canceled_by_request_ends_with_what_it_had(demo_tagger: Path) -> None:
    async with connect(_KERNEL, roots=_roots(demo_tagger)) as kernel, anyio.create_task_group() as tasks:

        def sink(method: str, params: Any) -> None:
            if method == "partial":
                tasks.start_soon(kernel.cancel, "job_1")

        with pytest.raises(JobCanceled) as caught:
            await kernel.run("tag", _job(demo_tagger, count=900), sink)
    assert caught.value.partial["tagged"] >= 1


async def test_an_error_of_the_sink_is_the_callers(demo_tagger: Path) -> None:
    def sink(method: str, params: Any) -> None:
        raise ZeroDivisionError

    async with connect(_KERNEL, roots=_roots(demo_tagger)) as kernel:
        with pytest.raises(ZeroDivisionError):
            await kernel.run("tag", _job(demo_tagger, count=900), sink)
        assert (await kernel.run("tag", _job(demo_tagger, job_id="job_2"))).tagged == 1


async def test_a_program_that_is_no_kernel_is_reported_with_what_it_said() -> None:
    with pytest.raises(KernelDied) as caught:
        async with connect(_python("raise SystemExit('no kernel here')")):
            pass
    assert caught.value.details["exit_code"] == 1
    assert "no kernel here" in caught.value.details["stderr_tail"]


@pytest.mark.parametrize("program", ["cat", "yes"])
async def test_a_program_that_only_echoes_or_chatters_is_no_kernel(program: str) -> None:
    with anyio.fail_after(20), pytest.raises(KernelFault, match="it is no kernel"):
        async with connect([program]):
            pass


async def test_a_program_that_does_not_exist_is_unavailable() -> None:
    with pytest.raises(KernelUnavailable, match="/does/not/exist"):
        async with connect(["/does/not/exist"]):
            pass


async def test_a_kernel_of_another_level_is_refused_with_what_it_speaks() -> None:
    older = _python(
        "import json, sys; sys.stdin.readline(); "
        "error = {'code': 1001, 'message': 'old', 'data': {'kind': 'level_unsupported', 'supported': [7]}}; "
        "print(json.dumps({'jsonrpc': '2.0', 'id': 1, 'error': error}), flush=True); sys.stdin.read()"
    )
    with pytest.raises(LevelUnsupported) as caught:
        async with connect(older):
            pass
    assert caught.value.supported == [7]


async def test_a_kernel_that_never_answers_runs_into_the_deadline() -> None:
    async with connect(_KERNEL) as kernel:
        os.kill(kernel.pid, signal.SIGSTOP)
        await _until(lambda: _state(kernel.pid) == "T")
        with pytest.raises(KernelTimeout, match="ping"):
            await kernel.call("ping", timeout_s=0.05)
        os.kill(kernel.pid, signal.SIGCONT)


async def test_a_stopped_kernel_is_killed_when_the_block_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.hosting.client.CLOSE_S", 0.2)
    async with connect(_KERNEL) as kernel:
        os.kill(kernel.pid, signal.SIGSTOP)
    with pytest.raises(ProcessLookupError):
        os.kill(kernel.pid, 0)


async def test_a_child_that_keeps_the_pipes_open_does_not_hide_the_death_and_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("orchestrator.hosting.client.CLOSE_S", 0.2)
    program = (
        "import subprocess, sys;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid)); sys.stdin.readline(); sys.exit(9)"
    )
    with anyio.fail_after(30), pytest.raises(KernelDied) as caught:
        async with connect(_python(program)):
            pass
    assert caught.value.details["exit_code"] == 9
    child = int((tmp_path / "pid").read_text())
    await _until(lambda: _state(child) in (None, "Z"))


async def _until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():
            await anyio.lowlevel.checkpoint()


def _state(pid: int) -> str | None:
    """The letter that Linux gives the state of a process; None where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2][:1]
    except OSError:
        return None


@pytest.mark.parametrize(
    "deed",
    [
        "says neither result nor error",
        "answers nobody",
        "answers with the wrong type",
        "notifies with the wrong type",
        "says too much",
    ],
)
@pytest.mark.parametrize("method", ["tag", "ping"])
async def test_a_kernel_that_breaks_the_contract_is_ended_and_every_caller_told(
    demo_tagger: Path, deed: str, method: str
) -> None:
    with anyio.fail_after(30):
        async with connect(_fake(deed)) as kernel:
            with pytest.raises(KernelFault):
                if method == "tag":
                    await kernel.run("tag", _job(demo_tagger))
                else:
                    await kernel.call("ping")
            await kernel.died.wait()


async def test_an_error_without_data_is_an_error_all_the_same() -> None:
    async with connect(_fake("errs without data")) as kernel:
        with pytest.raises(LorakeetError, match="Oh") as caught:
            await kernel.call("ping")
    assert (caught.value.code, caught.value.kind) == (-32603, "unknown")


async def test_a_request_beyond_the_limit_is_refused_before_it_is_sent(demo_tagger: Path) -> None:
    async with connect(_KERNEL, limits=LimitsWanted(max_message_bytes=1 << 20)) as kernel:
        with pytest.raises(LineTooLong):
            await kernel.run("tag", _job(demo_tagger, count=40_000))
        assert (await kernel.call("ping")).instance_id


async def test_a_kernel_that_reads_nothing_holds_nobody_up(
    demo_tagger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is larger than a pipe, so that writing it waits for the kernel."""
    monkeypatch.setattr("orchestrator.hosting.client.WRITE_S", 0.2)
    monkeypatch.setattr("orchestrator.hosting.client.CLOSE_S", 0.2)
    with anyio.fail_after(30):
        async with connect(_KERNEL, roots=_roots(demo_tagger)) as kernel:
            os.kill(kernel.pid, signal.SIGSTOP)
            with pytest.raises(KernelDied):
                await kernel.run("tag", _job(demo_tagger, count=20_000))


async def test_a_deaf_kernel_is_given_up_within_the_time_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.hosting.client.CLOSE_S", 0.2)
    with anyio.fail_after(30):
        async with connect(_fake("says nothing")) as kernel:
            with pytest.raises(KernelTimeout):
                await kernel.call("ping", timeout_s=0.1)


async def test_lines_that_are_no_contract_are_counted_and_survived(demo_tagger: Path) -> None:
    noisy = _python(
        "import os, sys; os.write(1, b'banner of a driver\\n'); "
        "os.execv(sys.executable, [sys.executable, '-P', '-m', 'kernel'])"
    )
    async with connect(noisy) as kernel:
        assert (await kernel.call("ping")).instance_id == kernel.info.kernel.instance_id
        assert kernel.stray == 1


async def test_a_kernel_that_floods_stderr_is_never_blocked_by_it() -> None:
    flood = _python(
        "import os, sys; sys.stderr.write('x' * 3_000_000); sys.stderr.flush(); "
        "os.execv(sys.executable, [sys.executable, '-P', '-m', 'kernel'])"
    )
    seen: list[int] = []
    with anyio.fail_after(30):
        async with connect(flood, on_stderr=lambda chunk: seen.append(len(chunk))) as kernel:
            assert (await kernel.call("ping")).uptime_s >= 0
    assert sum(seen) >= 3_000_000
