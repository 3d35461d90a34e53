"""A kernel that says the user's key aloud, in every disguise and wherever people read: `tag` after `tag` it
fails, it succeeds, and it dies over what is no JSON."""

import base64
import json
import os
import sys
from itertools import count
from typing import Any, Final
from urllib.parse import quote

_jobs: Final = count()


def disguises(secret: str) -> list[str]:
    """A secret as it gets about in addresses, headers, documents and tracebacks."""
    encoded = base64.b64encode(f"user:{secret}".encode()).decode()
    return [secret, quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1], encoded]


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _answer(number: Any, **members: Any) -> None:
    _say({"jsonrpc": "2.0", "id": number, **members})


def _blab(job_id: str, words: list[str]) -> None:
    said = f"GET https://hub.example/?token={' '.join(words)} 401"
    sys.stderr.write(f"Traceback (most recent call last):\nOSError: {said}\n")
    sys.stderr.flush()
    tell = {"jsonrpc": "2.0"}
    log = {"level": "error", "logger": "hub", "message": said, "job_id": job_id}
    _say({**tell, "method": "log", "params": log})
    _say({**tell, "method": "log", "params": {**log, "job_id": None}})
    _say({**tell, "method": "progress", "params": {"job_id": job_id, "phase": "load", "message": said}})
    error = {"code": 4001, "message": said, "data": {"kind": "load_failed", "hint": said}}
    failed = [{"index": 0, "image": "/x.png", "error": error}]
    _say({**tell, "method": "partial", "params": {"job_id": job_id, "items": [], "failed": failed}})


def _tag(number: Any, job_id: str, words: list[str]) -> None:
    _blab(job_id, words)
    said = " ".join(words)
    match next(_jobs) % 3:
        case 0:
            data = {"kind": "load_failed", "hint": said, "where": said, "details": {"headers": said}}
            _answer(number, error={"code": 4001, "message": f"No model for {said}", "data": data})
        case 1:
            _answer(number, result={"tagged": 0, "provider": said})
        case _:
            sys.stdout.write(f"{said}\n" * 3)
            sys.stdout.flush()
            os._exit(7)


def _initialize(number: Any, words: list[str]) -> None:
    kernel = {"name": "talkative", "version": "0", "instance_id": "x", "pid": os.getpid()}
    agreed: dict[str, Any] = {"level": 1, "compatible": 1, "kernel": kernel}
    _answer(number, result={**agreed, "methods": {}, "capabilities": {}, "limits": {}})
    _say({"jsonrpc": "2.0", "method": "kernel/state", "params": _state(words)})


def _state(words: list[str]) -> dict[str, Any]:
    problem = {"kind": "no_models", "message": " ".join(words)}
    return {"status": "degraded", "devices": [], "engines": {}, "problems": [problem]}


def main() -> None:
    """Until stdin ends."""
    words: list[str] = []
    for line in sys.stdin:
        request = json.loads(line)
        number, params = request.get("id"), request.get("params", {})
        match request["method"]:
            case "initialize":
                words = [word for key in params.get("keys", {}).values() for word in disguises(key)]
                _initialize(number, words)
            case "ping":
                _answer(number, result={"instance_id": "x", "uptime_s": 1.0})
            case "probe":
                _answer(number, result={"engines": [], "state": _state(words)})
            case "roots/set":
                _answer(number, result={"roots": params["roots"]})
            case "tag":
                _tag(number, params["job_id"], words)
            case "exit":
                return


if __name__ == "__main__":
    main()
