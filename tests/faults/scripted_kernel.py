"""A kernel without a model, which can do one thing wrong: `python scripted_kernel.py FOLDER`.

It tags a picture with the name of its file. FOLDER/script says in JSON which `fault` it has, `when` (the
method that is asked for), and how many `times` in all; each time leaves a file in FOLDER. `picture_s` are
the seconds that a picture takes.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

_FOLDER: Final = Path(sys.argv[-1])
_FLOOD_BYTES: Final = 100 << 20
_writing: Final = threading.Lock()
_canceled: Final[set[str]] = set()
_silent: Final = threading.Event()

#: Takes the number of the request, and what would be the right answer.
Fault = Callable[[Any, str], None]


def _write(text: str) -> None:
    with _writing:
        sys.stdout.write(text)
        sys.stdout.flush()


def _line(number: Any, **members: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": number, **members}) + "\n"


def _for_ever() -> NoReturn:
    while True:
        signal.pause()


def _stay_silent(number: Any, right: str) -> None:
    """It reads on, and answers nothing any more."""
    _silent.set()


def _go_deaf(number: Any, right: str) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _for_ever()


def _flood(descriptor: int, end: bytes) -> Fault:
    def flood(number: Any, right: str) -> None:
        chunk = b"x" * ((1 << 16) - 1) + end
        for _ in range(_FLOOD_BYTES >> 16):
            os.write(descriptor, chunk)
        _write(right)

    return flood


def _say_bytes(number: Any, right: str) -> None:
    os.write(1, b"\xff\xfe\n" * 50)
    _write(right)


def _half_and_leave(number: Any, right: str) -> None:
    _write(right[: len(right) // 2])
    os._exit(0)


def _half_and_silence(number: Any, right: str) -> None:
    _write(right[: len(right) // 2])
    _silent.set()


def _close_stdout(number: Any, right: str) -> None:
    os.close(1)
    _for_ever()


def _say(*texts: Callable[[Any, str], str]) -> Fault:
    def say(number: Any, right: str) -> None:
        for text in texts:
            _write(text(number, right))

    return say


def _right(number: Any, right: str) -> str:
    return right


_ERROR: Final = {"code": 4001, "message": "Oh.", "data": {"kind": "load_failed", "retryable": False}}

FAULTS: Final[dict[str, Fault]] = {
    "dies": lambda number, right: os.kill(os.getpid(), signal.SIGKILL),
    "leaves": lambda number, right: os._exit(0),
    "is stopped": lambda number, right: os.kill(os.getpid(), signal.SIGSTOP),
    "says nothing": _stay_silent,
    "hears nothing": _go_deaf,
    "floods stdout with lines": _flood(1, b"\n"),
    "floods stdout with one line": _flood(1, b"x"),
    "floods stderr": _flood(2, b"\n"),
    "says what is no JSON": _say(lambda number, right: "{no JSON\n" * 50, _right),
    "says bytes that are no text": _say_bytes,
    "says half a line and leaves": _half_and_leave,
    "says half a line and no more": _half_and_silence,
    "answers twice": _say(_right, lambda number, right: _line(number, error=_ERROR)),
    "answers what nobody asked": _say(lambda number, right: _line(987_654, result={}), _right),
    "answers in another shape": _say(lambda number, right: _line(number, result=[1, 2])),
    "answers neither way": _say(lambda number, right: _line(number)),
    "closes stdout": _close_stdout,
}


def _script() -> dict[str, Any]:
    try:
        script: dict[str, Any] = json.loads((_FOLDER / "script").read_text("utf-8"))
    except FileNotFoundError:
        return {"when": None, "picture_s": 0.002}
    return script


def _due(when: str) -> Fault | None:
    """The fault that is to happen now. Which of the times it is, the first to make its file decides."""
    script = _script()
    if script["when"] != when:
        return None
    for time_number in range(script["times"]):
        try:
            (_FOLDER / f"fault-{time_number}").touch(exist_ok=False)
        except FileExistsError:
            continue
        return FAULTS[script["fault"]]
    return None


def _answer(when: str, number: Any, result: Any) -> None:
    right = _line(number, result=result)
    if _silent.is_set():
        return
    if (fault := _due(when)) is not None:
        fault(number, right)
    else:
        _write(right)


def _tag(number: Any, params: dict[str, Any]) -> None:
    lines = Path(params["inputs"]["manifest"]).read_text("utf-8").splitlines()
    first, picture_s = params["settings"]["always_first"], _script()["picture_s"]
    for index, line in enumerate(lines):
        if params["job_id"] in _canceled:
            _write(_line(number, error={"code": -32800, "message": "", "data": {"kind": "job_canceled"}}))
            return
        name = Path(json.loads(line)["path"]).stem
        _tell("partial", params, items=[_item(index, name, ", ".join([*first, name]))])
        _tell("progress", params, phase="tag", step=index + 1, total=len(lines))
        time.sleep(picture_s)
    _answer("tag", number, {"tagged": len(lines), "timings": {}})


def _item(index: int, name: str, caption: str) -> dict[str, Any]:
    tags = [{"name": name, "score": 0.9, "category": "general", "index": 0}]
    about = {"image": name, "width": 160, "height": 160, "caption": caption}
    return {"index": index, **about, "rating": {"general": 1.0}, "tags": tags}


def _tell(method: str, params: dict[str, Any], **said: Any) -> None:
    if not _silent.is_set():
        about = {"job_id": params["job_id"], **said}
        _write(json.dumps({"jsonrpc": "2.0", "method": method, "params": about}) + "\n")


def _take(request: dict[str, Any]) -> None:
    method, number, params = request["method"], request.get("id"), request.get("params", {})
    match method:
        case "initialize":
            kernel = {"name": "scripted", "version": "0", "instance_id": str(os.getpid()), "pid": os.getpid()}
            agreed: dict[str, Any] = {"level": 1, "compatible": 1, "kernel": kernel}
            _answer(method, number, {**agreed, "methods": {}, "capabilities": {}, "limits": {}})
        case "ping":
            _answer(method, number, {"instance_id": str(os.getpid()), "uptime_s": 1.0})
        case "roots/set":
            _answer(method, number, {"roots": params["roots"]})
        case "tag":
            threading.Thread(target=_tag, args=(number, params), daemon=True).start()
        case "cancel":
            _canceled.add(params["job_id"])
            _answer(method, number, {"state": "canceling"})
        case "exit":
            os._exit(0)


if __name__ == "__main__":
    for request_line in sys.stdin:
        _take(json.loads(request_line))
    os._exit(0)
