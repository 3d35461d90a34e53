"""Exceptions become wire errors here and nowhere else. The text of a foreign exception stays on stderr."""

import sys
import traceback
import uuid

from contract.errors import DiskFull, InternalError, LorakeetError, OutOfMemory, WireError

_NO_SPACE = 28  # errno.ENOSPC


def wire_error(error: BaseException, *, job_id: str | None = None) -> WireError:
    """`error` as it travels. What is no LorakeetError goes to stderr with its traceback."""
    return _ours(error).to_wire(job_id=job_id)


def _ours(error: BaseException) -> LorakeetError:
    if isinstance(error, LorakeetError):
        return error
    trace_id = report(error)
    if isinstance(error, MemoryError):
        return OutOfMemory("Memory ran out.", hint="Use a smaller batch size or smaller pictures.")
    if isinstance(error, OSError) and error.errno == _NO_SPACE:
        return DiskFull("The disk is full.")
    return InternalError("The kernel has a bug; its stderr has the details.", trace_id=trace_id)


def report(error: BaseException) -> str:
    """Write the traceback to stderr; the id under which it stands there."""
    trace_id = uuid.uuid4().hex[:12]
    lines = traceback.format_exception(error)
    sys.stderr.write(f"[trace {trace_id}]\n{''.join(lines)}")
    sys.stderr.flush()
    return trace_id
