"""A real studio as a child process, reached over its own socket. Every wait has an end."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

#: How tests start a studio. `-P` keeps the current directory off the path, as in an installed program.
COMMAND: Final = (sys.executable, "-P", "-m", "orchestrator.cli")
READY_S: Final = 30.0


class StudioEnded(Exception):
    """Raised when a studio was awaited and has ended; the text ends with the last of stderr."""


class StudioProcess:
    """`lorakeet serve` on a data directory and a free port. `ready` is the event that it began with.

    Leaving the `with` block kills it and all it started.
    """

    def __init__(
        self,
        home: Path,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        wait: bool = True,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.home = home
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._stdout: list[bytes] = []
        self._stderr: list[bytes] = []
        asked = ("--json", "--data", str(home), "serve", "--port", "0", "--no-browser", *arguments)
        self._process = subprocess.Popen(
            [*command, *asked],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        self._readers = [threading.Thread(target=run) for run in (self._read_stdout, self._read_stderr)]
        for reader in self._readers:
            reader.daemon = True
            reader.start()
        self.ready: dict[str, Any] = {}
        try:
            if wait:
                self.wait_ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def wait_ready(self) -> None:
        """Until it answers. Raises StudioEnded."""
        while self.ready.get("event") != "ready":
            event = self._events.get(timeout=READY_S)
            if event is None:
                raise StudioEnded(f"the studio has ended:\n{self.stdout[-2000:]}\n{self.stderr[-4000:]}")
            self.ready = event

    @property
    def url(self) -> str:
        """Such as `http://127.0.0.1:41235`."""
        return str(self.ready["url"]).rstrip("/")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stdout(self) -> str:
        """What it wrote to stdout so far."""
        return b"".join(self._stdout).decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """What it wrote to stderr so far."""
        return b"".join(self._stderr).decode("utf-8", "replace")

    @property
    def token(self) -> str:
        """What a program of the same user may use."""
        named = json.loads((self.home / "studio.json").read_text(encoding="utf-8"))
        text = (self.home / str(named["token_file"])).read_text(encoding="utf-8")
        return text.strip()

    @contextmanager
    def client(self, **options: Any) -> Iterator[httpx.Client]:
        """A client of the API with a token; paths are below `/api/v1`."""
        headers = {"authorization": f"Bearer {self.token}"}
        with httpx.Client(
            base_url=f"{self.url}/api/v1", headers=headers, **({"timeout": 30.0} | options)
        ) as client:
            yield client

    def signal(self, number: int) -> None:
        """Send a signal to the studio alone."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def signal_group(self, number: int) -> None:
        """Send a signal to the studio's own process group; kernels have groups of their own."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self, timeout_s: float = 20.0) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired."""
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """kill -9, at once, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.wait(15)
        self.signal_group(signal.SIGKILL)
        self.wait()
        for reader in self._readers:
            # A kernel may hold the other end for a moment longer.
            reader.join(5)

    def _read_stdout(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._stdout.append(line)
                with suppress(json.JSONDecodeError):
                    self._events.put(json.loads(line))
        self._events.put(None)

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._stderr.append(line)


def until(happened: Callable[[], Any], within_s: float = 20.0, every_s: float = 0.02) -> Any:
    """What `happened` returns, as soon as that is true. Raises TimeoutError.

    For what only another process knows; in one process wait for its event.
    """
    deadline = time.monotonic() + within_s
    while not (result := happened()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"did not happen within {within_s:g} s")
        threading.Event().wait(every_s)
    return result
