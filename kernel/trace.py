"""Exceptions become wire errors here and nowhere else. The text of a foreign exception stays on stderr."""

import sys
import traceback
import uuid
from contextlib import suppress

from contract.errors import (
    DependencyMissing,
    DiskFull,
    InternalError,
    LorakeetError,
    OutOfMemory,
    WireError,
)
from contract.rules import paths

_NO_SPACE = 28  # errno.ENOSPC


def wire_error(error: BaseException, *, job_id: str | None = None) -> WireError:
    """`error` as it travels. What is no LorakeetError goes to stderr with its traceback."""
    ours = _ours(error)
    if ours.where is not None:
        ours.where = paths.to_wire(ours.where)
    return ours.to_wire(job_id=job_id)


def _ours(error: BaseException) -> LorakeetError:
    if isinstance(error, LorakeetError):
        return error
    from trainer.shortage import is_memory

    trace_id = report(error)
    if is_memory(error):
        return OutOfMemory("Memory ran out.", hint="Make it smaller, or free memory first.")
    if isinstance(error, OSError) and error.errno == _NO_SPACE:
        return DiskFull("The disk is full.")
    if isinstance(error, ModuleNotFoundError) and (name := _third_party(error)):
        return DependencyMissing(
            f"`{name}` is not installed (trace {trace_id}).",
            hint="Run `python3 start.py doctor` in the folder of Lorakeet.",
        )
    return InternalError("The kernel has a bug; its stderr has the details.", trace_id=trace_id)


def report(error: BaseException) -> str:
    """Write the traceback to stderr; the id under which it stands there."""
    trace_id = uuid.uuid4().hex[:12]
    lines = traceback.format_exception(error)
    # A stream that somebody has closed does without; the host still gets its answer.
    with suppress(OSError, ValueError):
        sys.stderr.write(f"[trace {trace_id}]\n{''.join(lines)}")
    return trace_id


def _third_party(error: ModuleNotFoundError) -> str | None:
    """The package that is missing, unless it is a part of ours: that is a bug."""
    name = (error.name or "").partition(".")[0]
    return None if name in ("", "contract", "kernel", "trainer") else name
