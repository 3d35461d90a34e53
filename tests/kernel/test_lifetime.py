"""The kernel leaves when it should, from wherever it is, and leaves nothing behind.

A process whose parent has died cannot be waited for; that it is gone shows at a pipe that only it holds.
"""

import json
import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.builders.pictures import NASTY, ZOO, write
from tests.kernel_process import COMMAND, KernelEnded, KernelProcess

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and process groups")

GRACE_S = 10.0
#: What an idle kernel may take to notice that its parent is gone: it looks every second.
NOTICED_S = 4.0
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def endless(demo_tagger: Path, tmp_path: Path, job_id: str = "long") -> dict[str, Any]:
    """The params of a job that takes far longer than any test."""
    (image,) = write(tmp_path, NASTY[:1])
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(f'{{"path": "{image}"}}\n' * 30_000, encoding="utf-8")
    return {
        "job_id": job_id,
        "v": 2,
        "inputs": {"manifest": str(manifest)},
        "settings": {"model": {"path": str(demo_tagger)}},
    }


def first_partial(kernel: KernelProcess) -> None:
    while kernel.receive().get("method") != "partial":
        pass


def with_startup_code(folder: Path, code: str) -> dict[str, str]:
    """The environment of a kernel that runs `code` before anything of ours."""
    (folder / "sitecustomize.py").write_text(textwrap.dedent(code), encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


# Asked to ---------------------------------------------------------------------------------------------------


def test_the_end_of_stdin_ends_the_kernel(tmp_path: Path) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path])
        kernel.close_stdin()
        assert kernel.wait() == 0
        assert "Traceback" not in kernel.stderr


def test_exit_ends_the_kernel_while_stdin_stays_open(tmp_path: Path) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path])
        kernel.notify("exit")
        assert kernel.wait() == 0


def test_exit_before_the_handshake_ends_it_too() -> None:
    with KernelProcess() as kernel:
        kernel.notify("exit")
        assert kernel.wait() == 0


def test_the_end_of_stdin_before_any_message_ends_it_too() -> None:
    with KernelProcess() as kernel:
        kernel.close_stdin()
        assert kernel.wait() == 0
        assert kernel.messages == [] and kernel.stderr == ""


@pytest.mark.parametrize(
    "params", [{"contract": {"levels": [99]}, "client": {"name": "t"}}, {"contract": {"levels": []}}]
)
def test_a_kernel_whose_handshake_was_refused_says_so_with_its_exit_code(params: dict[str, Any]) -> None:
    with KernelProcess() as kernel:
        assert "error" in kernel.request("initialize", params)
        kernel.close_stdin()
        assert kernel.wait() == 4


def test_a_handshake_that_succeeds_at_the_second_try_is_a_good_one(tmp_path: Path) -> None:
    with KernelProcess() as kernel:
        refused = kernel.request("initialize", {"contract": {"levels": [99]}, "client": {"name": "t"}})
        assert refused["error"]["data"]["supported"] == [1]
        kernel.initialize(roots=[tmp_path])
        kernel.close_stdin()
        assert kernel.wait() == 0


def test_a_job_that_runs_at_the_end_of_stdin_is_canceled_and_answers(
    tmp_path: Path, demo_tagger: Path
) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        job = kernel.call("tag", endless(demo_tagger, tmp_path))
        first_partial(kernel)
        kernel.close_stdin()
        error = kernel.answer(job)["error"]
        assert error["code"] == -32800 and error["data"]["partial"]["tagged"] > 0
        assert kernel.wait() == 0
        assert "Traceback" not in kernel.stderr


def test_everything_that_was_sent_before_the_end_of_stdin_is_answered(tmp_path: Path) -> None:
    hello = {"contract": {"levels": [1]}, "client": {"name": "t"}}
    job = {"job_id": "a", "v": 2, "inputs": {"images": ["/x"]}, "settings": {"model": {"path": "/x"}}}
    calls = [
        ("initialize", hello),
        ("job/get", {"job_id": "b"}),
        ("tag", job),
        ("shutdown", {}),
        ("ping", {}),
    ]
    lines = "".join(
        json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}) + "\n"
        for number, (method, params) in enumerate(calls)
    )
    for _ in range(8):
        done = subprocess.run(COMMAND, input=lines.encode(), capture_output=True, timeout=20, check=True)
        messages = [json.loads(line) for line in done.stdout.splitlines()]
        answers = {message["id"]: message for message in messages if "id" in message}
        assert set(answers) == set(range(len(calls)))
        assert answers[1]["error"]["data"]["kind"] == "unknown_job"
        # Its path lies outside the roots; whatever is noticed first, there is one answer.
        assert answers[2]["error"]["data"]["kind"] in ("path_outside_roots", "canceled", "shutting_down")
        assert done.stderr == b""


# Signals ----------------------------------------------------------------------------------------------------

#: Modules at whose import a signal comes, and whether the kernel has taken signals over by then.
MOMENTS = [
    ("kernel.descriptors", False),
    ("faulthandler", False),
    ("kernel.serve", True),
    ("msgspec", True),
    ("contract.errors", True),
    ("contract.methods.registry", True),
    ("kernel.jobs", True),
]
LATER = ["kernel.loop", "anyio", "jsonrpcserver", "kernel.methods.tag"]
SIGNAL_AT_IMPORT = """
    import os, sys

    def at_import(event, args):
        if event == "import" and args[0] == os.environ["AT"]:
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))

    sys.addaudithook(at_import)
"""


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(("module", "is_watched"), MOMENTS)
def test_a_signal_during_start_up_ends_the_kernel_without_a_traceback(
    module: str, is_watched: bool, number: signal.Signals, tmp_path: Path
) -> None:
    env = with_startup_code(tmp_path, SIGNAL_AT_IMPORT) | {"AT": module, "SIGNAL": str(int(number))}
    with KernelProcess(env) as kernel:
        assert kernel.wait() == (0 if is_watched else -number)
        kernel.kill()
        assert kernel.stderr == "" and kernel.stray == []


@pytest.mark.parametrize("module", LATER)
def test_a_signal_right_after_the_handshake_ends_the_kernel_without_a_traceback(
    module: str, tmp_path: Path, demo_tagger: Path
) -> None:
    env = with_startup_code(tmp_path, SIGNAL_AT_IMPORT) | {"AT": module, "SIGNAL": str(int(signal.SIGTERM))}
    with KernelProcess(env) as kernel:
        params = {"contract": {"levels": [1]}, "client": {"name": "t"}, "roots": [str(demo_tagger)]}
        kernel.call("initialize", params)
        assert kernel.wait() == 0
        kernel.kill()
        assert kernel.stderr == "" and kernel.stray == []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_right_after_the_spawn_leaves_no_process(number: signal.Signals) -> None:
    # Python itself starts up here: until it has run our first statement, the outcome is its own. It may even
    # swallow a Ctrl+C, if that falls into a callback of its imports; the end of stdin ends the kernel then.
    with KernelProcess() as kernel:
        os.kill(kernel.pid, number)
        kernel.close_stdin()
        code = kernel.wait()
        kernel.kill()
        assert code in (0, -number) or (code == 1 and "kernel/__main__.py" not in kernel.stderr)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_an_idle_kernel_ends_it(number: signal.Signals, tmp_path: Path) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path])
        os.kill(kernel.pid, number)
        assert kernel.wait() == 0
        kernel.kill()
        assert kernel.stderr == ""


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_in_the_middle_of_a_job_cancels_it_and_ends_the_kernel(
    number: signal.Signals, tmp_path: Path, demo_tagger: Path
) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        job = kernel.call("tag", endless(demo_tagger, tmp_path))
        first_partial(kernel)
        os.kill(kernel.pid, number)
        assert kernel.answer(job)["error"]["data"]["kind"] == "canceled"
        assert kernel.wait() == 0
        kernel.kill()
        assert kernel.stderr == ""


def test_a_signal_during_shutdown_cuts_the_waiting_short(tmp_path: Path, demo_tagger: Path) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        job = kernel.call("tag", endless(demo_tagger, tmp_path))
        first_partial(kernel)
        shutdown = kernel.call("shutdown", {"deadline_s": 3600})
        while kernel.request("status")["result"]["accepting_jobs"]:
            pass
        os.kill(kernel.pid, signal.SIGTERM)
        assert kernel.answer(job)["error"]["data"]["kind"] == "canceled"
        assert "result" in kernel.answer(shutdown)
        assert kernel.wait() == 0
        kernel.kill()
        assert kernel.stderr == ""


@pytest.mark.parametrize("number", SIGNALS)
def test_requests_that_race_with_a_signal_are_answered_or_not_but_never_a_traceback(
    number: signal.Signals, tmp_path: Path
) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path])
        while kernel.receive().get("method") != "kernel/state":
            pass
        line = b'{"jsonrpc":"2.0","id":7,"method":"job/get","params":{"job_id":"none"}}\n'
        kernel.send_raw(line * 200)
        os.kill(kernel.pid, number)
        with suppress(BrokenPipeError):
            kernel.send_raw(line * 500)
        assert kernel.wait() == 0
        kernel.kill()
        with suppress(KernelEnded):
            while message := kernel.receive():
                assert message["error"]["data"]["kind"] in ("unknown_job", "shutting_down")
        assert kernel.stderr == "" and kernel.stray == []


#: Replaces what a job does while it loads a model; onnxruntime is imported after it, so there is time enough.
STUCK = """
    import sys, threading, time

    def patch():
        while getattr(sys.modules.get("kernel.engines.labels"), "read", None) is None:
            time.sleep(0.0005)
        sys.modules["kernel.engines.labels"].read = stuck

    def stuck(path):
        print("stuck", file=sys.stderr, flush=True)
        {wait}
        time.sleep(3600)

    threading.Thread(target=patch, daemon=True).start()
"""
#: Once the kernel leaves, a native call that holds the GIL and never ends.
HOLD_THE_GIL = """import ctypes, gc
        from kernel.lifetime import Lifetime
        lifetime = next(each for each in gc.get_objects() if isinstance(each, Lifetime))
        while not lifetime.leaving:
            time.sleep(0.001)
        ctypes.PyDLL(None).sleep(3600)"""


def stuck_job(kernel: KernelProcess, tmp_path: Path, demo_tagger: Path) -> int:
    """A running job that no cancel ends."""
    kernel.initialize(roots=[tmp_path, demo_tagger])
    (image,) = write(tmp_path, NASTY[:1])
    job = kernel.call(
        "tag",
        {
            "job_id": "a",
            "v": 2,
            "inputs": {"images": [str(image)]},
            "settings": {"model": {"path": str(demo_tagger)}},
        },
    )
    while "stuck" not in kernel.stderr:
        assert kernel.request("ping")["result"]["uptime_s"] < 20
    return job


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_ends_a_kernel_at_once_that_waits_for_a_stuck_job(
    number: signal.Signals, tmp_path: Path, demo_tagger: Path
) -> None:
    with KernelProcess(with_startup_code(tmp_path, STUCK.format(wait=""))) as kernel:
        stuck_job(kernel, tmp_path, demo_tagger)
        os.kill(kernel.pid, number)
        while kernel.request("status")["result"]["accepting_jobs"]:
            pass
        os.kill(kernel.pid, number)
        # Its exit code tells it from a kernel that waited: the grace would end it with 1, or 0.
        assert kernel.wait() == 128 + number


@pytest.mark.slow
def test_a_job_that_does_not_stop_is_answered_for_before_the_grace_is_over(
    tmp_path: Path, demo_tagger: Path
) -> None:
    with KernelProcess(with_startup_code(tmp_path, STUCK.format(wait=""))) as kernel:
        job = stuck_job(kernel, tmp_path, demo_tagger)
        kernel.close_stdin()
        assert kernel.answer(job, timeout=GRACE_S)["error"]["code"] == -32800
        assert kernel.wait(GRACE_S) == 0


@pytest.mark.slow
def test_a_native_call_that_holds_the_gil_does_not_hold_up_the_end(tmp_path: Path, demo_tagger: Path) -> None:
    with KernelProcess(with_startup_code(tmp_path, STUCK.format(wait=HOLD_THE_GIL))) as kernel:
        stuck_job(kernel, tmp_path, demo_tagger)
        kernel.close_stdin()
        assert kernel.wait(GRACE_S + 2) == 1
        kernel.kill()
        assert "Timeout" in kernel.stderr  # faulthandler says where every thread was


# The host dies ----------------------------------------------------------------------------------------------

#: A host that starts a kernel and waits to be killed. The kernel alone holds descriptor FD, as its stderr.
HOST = """
    import json, os, subprocess, sys, time

    fd, siblings, launcher = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    command = json.loads(sys.argv[4])
    if launcher == "launcher":
        wait = "import subprocess, sys; sys.exit(print(subprocess.run(sys.argv[1:]).returncode, file="
        wait += "open({out!r}, 'w')))".format(out=sys.argv[5])
        command = [sys.executable, "-c", wait, *command]
    read, write = os.pipe()
    kernel = subprocess.Popen(
        command, stdin=read, stdout=subprocess.PIPE, stderr=fd, start_new_session=True,
        pass_fds=[write] if launcher == "launcher" else [],
    )
    os.close(fd)
    if siblings == "sibling":
        quiet = subprocess.DEVNULL
        sibling = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)"],
            pass_fds=[write], stdin=quiet, stdout=quiet, stderr=quiet,
        )
        print(sibling.pid)
    else:
        print(0)
    hello = {"contract": {"levels": [1]}, "client": {"name": "t"}, "roots": json.loads(sys.argv[6])}
    if launcher == "launcher":
        hello["parent_pid"] = os.getpid()
    lines = [{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}]
    if sys.argv[7] != "null":
        lines.append({"jsonrpc": "2.0", "id": 2, "method": "tag", "params": json.loads(sys.argv[7])})
    os.write(write, b"".join(json.dumps(line).encode() + b"\\n" for line in lines))
    awaited = b"partial" if len(lines) == 2 else b"kernel/state"
    while awaited not in kernel.stdout.readline():
        pass
    print("running", flush=True)
    time.sleep(60)
"""


class Host:
    """A host in a process of its own, and the pipe that ends when its kernel is gone."""

    def __init__(
        self,
        tmp_path: Path,
        *,
        sibling: bool = False,
        launcher: bool = False,
        roots: Sequence[Path] = (),
        job: Any = None,
    ) -> None:
        self.exit_code = tmp_path / "exit_code"
        self.alive, write = os.pipe()
        arguments = [str(write), "sibling" if sibling else "", "launcher" if launcher else ""]
        arguments += [json.dumps(COMMAND), str(self.exit_code)]
        arguments += [json.dumps([str(root) for root in roots]), json.dumps(job)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(HOST), *arguments],
            stdout=subprocess.PIPE,
            pass_fds=[write],
        )
        os.close(write)
        assert self.process.stdout is not None
        self.sibling = int(self.process.stdout.readline())
        assert self.process.stdout.readline() == b"running\n"

    def kernel_is_gone(self, within_s: float) -> bool:
        """Wait for the end of what the kernel alone holds open."""
        while select.select([self.alive], [], [], within_s)[0]:
            if not os.read(self.alive, 65536):
                return True
        return False

    def __enter__(self) -> "Host":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        if self.sibling:
            with suppress(ProcessLookupError):
                os.kill(self.sibling, signal.SIGKILL)
        assert self.process.stdout is not None
        self.process.stdout.close()
        os.close(self.alive)


def test_the_kernel_goes_with_its_host(tmp_path: Path) -> None:
    with Host(tmp_path) as host:
        assert not host.kernel_is_gone(0)
        host.process.kill()
        assert host.kernel_is_gone(NOTICED_S)


def test_the_kernel_goes_with_its_host_though_another_process_holds_its_pipe(tmp_path: Path) -> None:
    with Host(tmp_path, sibling=True) as host:
        assert not host.kernel_is_gone(0)
        host.process.kill()
        assert host.kernel_is_gone(NOTICED_S)
        os.kill(host.sibling, 0)


def test_the_kernel_goes_with_its_host_in_the_middle_of_a_job(tmp_path: Path, demo_tagger: Path) -> None:
    job = endless(demo_tagger, tmp_path)
    with Host(tmp_path, sibling=True, roots=[tmp_path, demo_tagger], job=job) as host:
        host.process.kill()
        assert host.kernel_is_gone(GRACE_S)


def test_the_kernel_goes_with_a_host_that_started_it_through_a_launcher(tmp_path: Path) -> None:
    """The launcher lives on and holds the pipe; the host is dead, but nobody has fetched its exit code."""
    with Host(tmp_path, launcher=True) as host:
        assert not host.kernel_is_gone(0)
        host.process.kill()
        assert host.kernel_is_gone(NOTICED_S)
        assert host.exit_code.read_text(encoding="utf-8") == "3\n"


@pytest.mark.parametrize("pid", [2**22 + 1, 2**31, 2**62])
def test_a_parent_pid_that_is_unknown_here_is_ignored(pid: int, tmp_path: Path) -> None:
    with KernelProcess() as kernel:
        params = {"contract": {"levels": [1]}, "client": {"name": "t"}, "parent_pid": pid}
        assert "result" in kernel.request("initialize", params)
        assert "result" in kernel.request("ping")


def test_the_kernel_starts_no_process_that_outlives_it(tmp_path: Path, demo_tagger: Path) -> None:
    images = write(tmp_path, ZOO[:3])
    with Host(
        tmp_path,
        roots=[tmp_path, demo_tagger],
        job={
            "job_id": "a",
            "v": 2,
            "inputs": {"images": [str(image) for image in images]},
            "settings": {"model": {"path": str(demo_tagger)}},
        },
    ) as host:
        host.process.kill()
        # Whoever had been started by the kernel would hold its stderr.
        assert host.kernel_is_gone(NOTICED_S)
