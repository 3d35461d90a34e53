"""The one thread that writes to the wire, and the queue before it.

Replies and lossless notifications keep their order. Progress of a job has one place in the queue, where the
newest wins. `seq` is given here, as a message is written, so that it tells the order on the wire. A full
queue blocks the job that feeds it, never the reader or the loop. No line is longer than the host agreed to.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from contract.envelope import MAX_MESSAGE_BYTES, Failure, Id, Notification, decode_incoming, encode
from contract.errors import InternalError, LineTooLong
from contract.notifications import Log, LogLevel, Progress
from kernel.trace import report

#: Messages that may wait before a job has to. A `partial` of large taggers is a quarter of a megabyte.
QUEUE_LENGTH: Final = 128
#: Log lines that may wait; more are dropped and counted.
LOG_LENGTH: Final = 256


class Stream:
    """The numbering of one attempt of one job. Closed, it says nothing more."""

    def __init__(self) -> None:
        self.seq = 0
        self.closed = False
        self.waiting_progress: _Entry | None = None


class _Entry:
    """One place in the queue: a line already made, or a notification that still gets its number."""

    __slots__ = ("line", "method", "params", "stream", "written")

    def __init__(
        self,
        line: bytes = b"",
        *,
        method: str = "",
        params: Any = None,
        stream: Stream | None = None,
        written: Callable[[], None] | None = None,
    ) -> None:
        self.line = line
        self.method = method
        self.params = params
        self.stream = stream
        self.written = written

    def encoded(self) -> bytes:
        if self.line:
            return self.line
        if self.stream is not None:
            self.stream.seq += 1
            self.params.seq = self.stream.seq
        return encode(Notification(method=self.method, params=self.params))


class Writer:
    """Owns the writing end. When it can write no more, `lost` is called if the host no longer reads, `broken`
    if the fault is ours."""

    def __init__(self, fd: int, lost: Callable[[], None], broken: Callable[[], None]) -> None:
        self._fd = fd
        self._lost = lost
        self._broken = broken
        #: The most bytes of a line, its newline not counted; agreed on in the handshake.
        self.max_line: Callable[[], int] = lambda: MAX_MESSAGE_BYTES
        self._queue: deque[_Entry] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._logs_waiting = 0
        self._logs_dropped = 0
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def reply(self, line: bytes, written: Callable[[], None] | None = None) -> None:
        """Queue a response. Never blocks."""
        self._put(_Entry(line, written=written))

    def state(self, params: Any) -> None:
        """Queue a `kernel/state`. Never blocks."""
        self._put(_Entry(method="kernel/state", params=params))

    def lossless(self, method: str, params: Any, stream: Stream) -> None:
        """Queue a notification that must arrive; blocks the calling job while the queue is full."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._queue) < QUEUE_LENGTH or self._closed)
            self._append(_Entry(method=method, params=params, stream=stream))

    def progress(self, params: Progress, stream: Stream) -> None:
        """Queue progress, or renew what waits of the same job."""
        with self._changed:
            if (waiting := stream.waiting_progress) is not None:
                waiting.params = params
                return
            stream.waiting_progress = _Entry(method="progress", params=params, stream=stream)
            self._append(stream.waiting_progress)

    def log(self, level: LogLevel, logger: str, message: str, job_id: str | None = None) -> None:
        """Queue a line for a person, or count it as dropped."""
        with self._changed:
            if self._logs_waiting >= LOG_LENGTH:
                self._logs_dropped += 1
                return
            dropped, self._logs_dropped = self._logs_dropped, 0
            self._logs_waiting += 1
            line = Log(level=level, logger=logger, message=message, job_id=job_id, dropped=dropped)
            self._append(_Entry(method="log", params=line))

    def close(self, timeout_s: float) -> None:
        """Write what is queued, for at most `timeout_s`, then end."""
        self._stop()
        self._thread.join(timeout_s)

    def _put(self, entry: _Entry) -> None:
        with self._changed:
            self._append(entry)

    def _append(self, entry: _Entry) -> None:
        if self._closed or (entry.stream is not None and entry.stream.closed):
            return
        self._queue.append(entry)
        self._changed.notify_all()

    def _take(self) -> _Entry | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            if not self._queue:
                return None
            entry = self._queue.popleft()
            if entry.stream is not None and entry is entry.stream.waiting_progress:
                entry.stream.waiting_progress = None
            if entry.method == "log":
                self._logs_waiting -= 1
            self._changed.notify_all()
            return entry

    def _run(self) -> None:
        try:
            while (entry := self._take()) is not None:
                self._write(self._fitting(entry, entry.encoded()))
                if entry.written is not None:
                    entry.written()
        except OSError:
            self._stop()
            self._lost()
        except BaseException as error:  # noqa: BLE001  the top of a thread: without it the host would wait for ever
            report(error)
            self._stop()
            self._broken()

    def _fitting(self, entry: _Entry, line: bytes) -> bytes:
        """`line`, or what takes its place where it is too long: the last defence behind those who make it."""
        limit = self.max_line()
        if len(line) - 1 <= limit:
            return line
        trace_id = report(
            LineTooLong(f"`{entry.method or 'a response'}` of {len(line)} bytes; {limit} may be.")
        )
        if not entry.line:
            return b""
        error = InternalError("The answer is too long for a line; stderr has the details.", trace_id=trace_id)
        answer = encode(Failure(id=_id_of(line), error=error.to_wire()))
        # The id alone may be too long: then the answer is nobody's.
        return answer if len(answer) - 1 <= limit else encode(Failure(id=None, error=error.to_wire()))

    def _stop(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            rest = rest[os.write(self._fd, rest) :]


def _id_of(line: bytes) -> Id:
    given = decode_incoming(line).id
    return None if given is msgspec.UNSET else given
