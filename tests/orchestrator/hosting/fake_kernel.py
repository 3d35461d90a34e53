"""A program that shakes hands like a kernel and then does one wrong thing: `python fake_kernel.py DEED`."""

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final


def _answer(number: Any, **members: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": number, **members})


def _die(number: Any) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


_PARTIAL: Final = {"jsonrpc": "2.0", "method": "partial", "params": {"job_id": 5}}

#: What is written when a job or a ping comes, by the name of the deed.
DEEDS: Final[dict[str, Callable[[Any], str]]] = {
    "dies": _die,
    "says nothing": lambda number: "",
    "says neither result nor error": lambda number: _answer(number),
    "answers nobody": lambda number: _answer(None, error={"code": -32700, "message": "What?"}),
    "answers with the wrong type": lambda number: _answer(number, result=[1, 2]),
    "notifies with the wrong type": lambda number: json.dumps(_PARTIAL),
    "says too much": lambda number: "x" * (9 << 20),
    "errs without data": lambda number: _answer(number, error={"code": -32603, "message": "Oh."}),
}


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(deed: str) -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if request["method"] == "initialize":
            kernel = {"name": "fake", "version": "0", "instance_id": "x", "pid": os.getpid()}
            agreed: dict[str, Any] = {"level": 1, "compatible": 1, "kernel": kernel}
            _say(_answer(request["id"], result={**agreed, "methods": {}, "capabilities": {}, "limits": {}}))
        elif request["method"] in ("tag", "ping") and (said := DEEDS[deed](request["id"])):
            _say(said)


if __name__ == "__main__":
    main(sys.argv[1])
