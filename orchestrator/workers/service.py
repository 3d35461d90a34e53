"""The worker's loop: one request after the other, each answered with a result or a typed error.

A thread reads, so that the end of stdin ends the process also in the middle of a task: that is how it hears
of its pool's end where no system call says so.
"""

import os
import sys
import threading
import warnings
from queue import SimpleQueue
from typing import Any, BinaryIO, NoReturn

import msgspec

from contract.errors import InternalError, LorakeetError, OutOfMemory, WireError
from orchestrator.workers.descriptors import Pipes
from orchestrator.workers.tasks import TASKS, Task
from orchestrator.workers.wire import Answer, Asked, asked_decoder, encoder


def serve(pipes: Pipes) -> NoReturn:
    """Answer until stdin ends."""
    # What a library has to say about odd metadata is no news to anybody: a file is decoded or refused.
    warnings.simplefilter("ignore")
    requests: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(pipes.reading, requests), name="reader", daemon=True).start()
    while True:
        _write(pipes.writing, answer(requests.get()))


def answer(line: bytes) -> bytes:
    """The line that answers `line`."""
    asked = asked_decoder.decode(line)
    try:
        return encoder.encode(Answer(id=asked.id, result=_done(asked)))
    except LorakeetError as error:
        return _refusal(asked.id, error.to_wire())
    except MemoryError:
        # What held the memory is let go with the frames of this exception.
        refusal = OutOfMemory("There was not enough memory for this.", hint="Make the picture smaller.")
    except Exception:  # noqa: BLE001  the top of a task: a decoder's own words never travel
        return _refusal(asked.id, _bug())
    return _refusal(asked.id, refusal.to_wire())


def _done(asked: Asked) -> msgspec.Struct:
    task: Task[Any, Any] = TASKS[asked.task]
    result: msgspec.Struct = task.perform(msgspec.json.decode(asked.arguments, type=task.arguments))
    return result


def _refusal(number: int, error: WireError) -> bytes:
    return encoder.encode(Answer(id=number, error=error))


def _bug() -> WireError:
    """Of the exception that is being handled; its traceback goes to stderr."""
    import secrets
    import traceback

    trace_id = secrets.token_hex(8)
    sys.stderr.write(f"trace {trace_id}\n{traceback.format_exc()}")
    sys.stderr.flush()
    return InternalError("A worker met a bug; the log says more.", trace_id=trace_id).to_wire()


def _read(reading: BinaryIO, requests: "SimpleQueue[bytes]") -> None:
    for line in reading:
        requests.put(line)
    os._exit(0)


def _write(writing: BinaryIO, line: bytes) -> None:
    try:
        writing.write(line + b"\n")
        writing.flush()
    except BrokenPipeError:
        os._exit(0)
