"""A real kernel on real pipes, for tests that speak to it one message at a time.

Two threads drain stdout and stderr from the first moment, so the kernel never waits for the test. Every wait
has an end. The process gets a session of its own; leaving the `with` block kills the whole group.
"""

import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

#: How tests start a kernel. `-P` keeps the current directory off the path, as in an installed program.
COMMAND: Final = (sys.executable, "-P", "-m", "kernel")
#: Seconds until the helper gives up waiting for its own threads and for a killed process.
_TEARDOWN_S: Final = 10.0

Message = dict[str, Any]


class KernelEnded(Exception):
    """Raised when a message was awaited and stdout has ended; the text ends with the last of stderr."""


class KernelProcess:
    """A kernel as a child. `env` is added to this process's environment.

    `messages` are all that were received, in order, `notifications` those without an id, `stray` the lines
    on stdout that are no JSON-RPC.
    """

    def __init__(
        self,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        *,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.messages: list[Message] = []
        self.notifications: list[Message] = []
        self.stray: list[bytes] = []
        self._inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._answers: dict[Any, Message] = {}
        self._stderr: list[bytes] = []
        self._ended = False
        self._last_id = 0
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
        self._threads = [
            threading.Thread(target=run, daemon=True) for run in (self._read_stdout, self._read_stderr)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stderr(self) -> str:
        """What the kernel wrote to stderr so far."""
        return b"".join(self._stderr).decode("utf-8", "replace")

    def send(self, message: Message) -> None:
        """Write one message."""
        self.send_raw(json.dumps(message).encode() + b"\n")

    def send_raw(self, data: bytes) -> None:
        """Write bytes as they are. Raises BrokenPipeError where nobody reads any more."""
        assert self._process.stdin is not None
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._process.stdin.fileno(), rest) :]

    def receive(self, timeout: float = 20) -> Message:
        """The next message, whatever it is. Raises TimeoutError and KernelEnded."""
        if self._ended:
            raise KernelEnded(f"stdout has ended\n{self.stderr[-4000:]}")
        try:
            message = self._inbox.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no message within {timeout} s\n{self.stderr[-4000:]}") from None
        if message is None:
            self._ended = True
            return self.receive(timeout)
        self.messages.append(message)
        if "id" not in message:
            self.notifications.append(message)
        return message

    def answer(self, request_id: Any, timeout: float = 20) -> Message:
        """The response to a request that was sent; what comes before it is kept."""
        while request_id not in self._answers:
            message = self.receive(timeout)
            if "id" in message:
                self._answers[message["id"]] = message
        return self._answers.pop(request_id)

    def call(self, method: str, params: Message | None = None) -> int:
        """Send a request; its id, for `answer`."""
        self._last_id += 1
        request = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params or {}}
        self.send(request)
        return self._last_id

    def request(self, method: str, params: Message | None = None, timeout: float = 20) -> Message:
        """Send a request and wait for its response, which is returned whole."""
        return self.answer(self.call(method, params), timeout)

    def notify(self, method: str, params: Message | None = None) -> None:
        """Send a notification."""
        self.send({"jsonrpc": "2.0", "method": method, "params": params or {}})

    def initialize(
        self, roots: Sequence[str | Path] = (), *, keys: Mapping[str, str] | None = None, **limits: Any
    ) -> Message:
        """Shake hands at level 1; the result."""
        params = {
            "contract": {"levels": [1]},
            "client": {"name": "tests"},
            "roots": [str(root) for root in roots],
            "limits": limits,
            "keys": dict(keys or {}),
        }
        response = self.request("initialize", params)
        assert "result" in response, response
        self.notify("initialized")
        result: Message = response["result"]
        return result

    def close_stdin(self) -> None:
        """Let the kernel see the end of its stdin."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def wait(self, timeout: float = 20) -> int:
        """The exit code; negative is a signal. Raises subprocess.TimeoutExpired."""
        return self._process.wait(timeout)

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End the process and its group now, and let go of the pipes; again and again without harm."""
        if self._process.returncode is None:
            self._kill_group()
            self._process.wait(_TEARDOWN_S)
        self.close_stdin()
        for thread, pipe in zip(self._threads, (self._process.stdout, self._process.stderr), strict=True):
            thread.join(_TEARDOWN_S)
            if pipe is not None and not thread.is_alive():
                pipe.close()

    def _kill_group(self) -> None:
        if sys.platform == "win32":
            self._process.kill()
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _read_stdout(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._sort(line.removesuffix(b"\n"))
        self._inbox.put(None)

    def _sort(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if isinstance(message, dict) and message.get("jsonrpc") == "2.0":
            self._inbox.put(message)
        else:
            self.stray.append(line)

    def _read_stderr(self) -> None:
        assert isinstance(self._process.stderr, io.BufferedReader)
        while chunk := self._process.stderr.read1():
            self._stderr.append(chunk)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
