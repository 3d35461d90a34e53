"""A kernel that does what the settings of its job say: `python lane_kernel.py FOLDER`.

In FOLDER it looks for `<job_id>.go`, where it is told to wait, and writes `journal`: a line for every job
that begins, and OVERLAP where the process that had begun it before is still there.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_FOLDER: Final = Path(sys.argv[1])
_writing: Final = threading.Lock()
_deaf: Final = threading.Event()
_canceled: Final[dict[str, threading.Event]] = {}
_hurried: Final[dict[str, threading.Event]] = {}
_orders: Final[dict[str, "queue.SimpleQueue[str]"]] = {}
#: Seconds between two looks for a file.
_LOOK_S: Final = 0.005

Deed = Callable[["Job"], None]


class Job:
    """A request that is being carried out."""

    def __init__(self, number: Any, params: dict[str, Any]) -> None:
        self.number = number
        self.id: str = params["job_id"]
        self.attempt: int = params["attempt"]
        self.settings: dict[str, Any] = params["settings"]

    def tell(self, method: str, **params: Any) -> None:
        say({"jsonrpc": "2.0", "method": method, "params": {"job_id": self.id, **params}})

    def finish(self) -> None:
        answer(self.number, result={"tagged": 0, "timings": {"pid": float(os.getpid())}})

    def fail(self, kind: str, code: int, *, retryable: bool = False) -> None:
        data = {"kind": kind, "retryable": retryable}
        answer(self.number, error={"code": code, "message": f"It was told to: {kind}.", "data": data})


def say(message: dict[str, Any]) -> None:
    write(json.dumps(message) + "\n")


def write(text: str) -> None:
    with _writing:
        sys.stdout.write(text)
        sys.stdout.flush()


def answer(number: Any, **members: Any) -> None:
    say({"jsonrpc": "2.0", "id": number, **members})


def _finish(job: Job) -> None:
    job.finish()


def _wait(job: Job) -> None:
    """Until somebody says go, or cancels."""
    go = _FOLDER / f"{job.id}.go"
    while not go.exists():
        if _canceled[job.id].wait(_LOOK_S):
            job.fail("canceled", -32800)
            return
    job.finish()


def _stubborn(job: Job) -> None:
    """Canceling is of no use."""
    while not (_FOLDER / f"{job.id}.go").exists():
        time.sleep(_LOOK_S)
    job.finish()


def _die(job: Job) -> None:
    """As often as it is told to."""
    if job.attempt <= job.settings["times"]:
        os.kill(os.getpid(), signal.SIGKILL)
    job.finish()


def _lose_device(job: Job) -> None:
    if job.attempt <= job.settings["times"]:
        job.fail("device_lost", 3002, retryable=True)
    else:
        job.finish()


def _stop(job: Job) -> None:
    if job.attempt <= job.settings["times"]:
        os.kill(os.getpid(), signal.SIGSTOP)
        # The signal may reach another thread a little later.
        threading.Event().wait()
    job.finish()


def _fall_silent(job: Job) -> None:
    """Alive, but it reads no more."""
    if job.attempt <= job.settings["times"]:
        _deaf.set()
    else:
        job.finish()


def _flood(job: Job) -> None:
    line = "x" * 1023 + "\n"
    for _ in range(job.settings["times"]):
        write(line * 1024)
    job.finish()


def _invalid_json(job: Job) -> None:
    write("{no JSON}\n" * 50)
    job.finish()


def _half_a_line(job: Job) -> None:
    write('{"jsonrpc": "2.0", "id": ')
    os._exit(3)


def _two_answers(job: Job) -> None:
    job.finish()
    job.fail("load_failed", 4001)


def _report(job: Job) -> None:
    """Progress, metrics, lines, items and a file."""
    for step in range(1, job.settings["times"] + 1):
        metrics = {"loss": 1.0 / step}
        job.tell("progress", phase="steps", step=step, total=job.settings["times"], rate=2.0, metrics=metrics)
        job.tell("log", level="info", logger="test", message=f"step {step}")
        job.tell("partial", items=[{"index": step - 1}])
    sys.stderr.write("a word beside\n")
    sys.stderr.flush()
    _tell_of_files(job)
    _wait(job)


def _tell_of_files(job: Job) -> None:
    made = _FOLDER / f"{job.id}.txt"
    made.write_bytes(b"made by a job")
    digest = "0" * 64
    for path in (made, Path("/etc/hostname")):
        told = {"role": "text", "path": str(path), "bytes": 13, "sha256": digest, "media_type": "text/plain"}
        job.tell("artifact", **told)


def _leave_late(job: Job) -> None:
    """Canceling takes a while."""
    _canceled[job.id].wait()
    time.sleep(job.settings["times"] / 10)
    job.fail("canceled", -32800)


def _save_for_ever(job: Job) -> None:
    """Until it is canceled in a hurry."""
    _hurried[job.id].wait()
    job.fail("canceled", -32800)


def _obey(job: Job) -> None:
    """Keep a checkpoint for every order, the newest one only, until the last order."""
    made: list[Path] = []
    while _orders[job.id].get() != "stop_after_epoch":
        made.append(_FOLDER / job.id / f"checkpoint-{len(made) + 1}" / "manifest.json")
        made[-1].parent.mkdir(parents=True)
        made[-1].write_bytes(b"{}")
        told = {"role": "checkpoint", "path": str(made[-1]), "bytes": 2, "sha256": "0" * 64}
        job.tell("artifact", **told, media_type="application/json", labels={"step": len(made)})
        if len(made) > 1:
            made[-2].unlink()
    job.finish()


def _outcome_of_another_shape(job: Job) -> None:
    answer(job.number, result=[1, 2])


DEEDS: Final[dict[str, Deed]] = {
    "finish": _finish,
    "wait": _wait,
    "be stubborn": _stubborn,
    "die": _die,
    "lose the device": _lose_device,
    "stop": _stop,
    "fall silent": _fall_silent,
    "flood": _flood,
    "half a line": _half_a_line,
    "two answers": _two_answers,
    "report": _report,
    "leave late": _leave_late,
    "save for ever": _save_for_ever,
    "obey": _obey,
    "wrong shape": _outcome_of_another_shape,
    "invalid JSON": _invalid_json,
    "too long": lambda job: write("x" * (9 << 20) + "\n"),
    "run out of memory": lambda job: job.fail("out_of_memory", 3001),
    "fill the disk": lambda job: job.fail("disk_full", 3003, retryable=True),
    "fail": lambda job: job.fail("load_failed", 4001),
}


def _write_down(job: Job) -> None:
    journal = _FOLDER / "journal"
    before = journal.read_text("ascii").splitlines() if journal.exists() else []
    pids = [int(line.split()[2]) for line in before if line.split()[0] == job.id]
    overlaps = " OVERLAP" if any(pid != os.getpid() and _is_alive(pid) for pid in pids) else ""
    with open(journal, "a", encoding="ascii") as file:
        file.write(f"{job.id} {job.attempt} {os.getpid()}{overlaps}\n")


def _is_alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def _carry_out(job: Job) -> None:
    _write_down(job)
    DEEDS[job.settings["deed"]](job)


def _initialized(number: Any) -> None:
    kernel = {"name": "lane", "version": "0", "instance_id": str(os.getpid()), "pid": os.getpid()}
    agreed: dict[str, Any] = {"level": 1, "compatible": 1, "kernel": kernel}
    answer(number, result={**agreed, "methods": {}, "capabilities": {}, "limits": {}})


def _take(request: dict[str, Any]) -> None:
    number, params = request.get("id"), request.get("params", {})
    match request["method"]:
        case "initialize":
            _initialized(number)
        case "ping":
            answer(number, result={"instance_id": str(os.getpid()), "uptime_s": 1.0})
        case "roots/set":
            answer(number, result={"roots": params["roots"]})
        case "tag":
            job = Job(number, params)
            _canceled[job.id], _hurried[job.id] = threading.Event(), threading.Event()
            _orders[job.id] = queue.SimpleQueue()
            threading.Thread(target=_carry_out, args=(job,), daemon=True).start()
        case "cancel":
            if known := _canceled.get(params["job_id"]):
                known.set()
                if params["mode"] == "now":
                    _hurried[params["job_id"]].set()
            answer(number, result={"state": "canceling" if known else "unknown_job"})
        case "control":
            _orders[params["job_id"]].put(params["action"])
            answer(number, result={"accepted": True})
        case "exit":
            os._exit(0)


def main() -> None:
    if (_FOLDER / "broken").exists():
        sys.exit("broken for good")
    for line in sys.stdin:
        if _deaf.is_set():
            threading.Event().wait()
        _take(json.loads(line))


if __name__ == "__main__":
    main()
