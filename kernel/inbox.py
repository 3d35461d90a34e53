"""Requests on their way from the reader to the loop; they wait here while the loop is being imported."""

import threading
from collections.abc import Callable

from contract.envelope import Request
from contract.errors import ShuttingDown
from kernel.jobs import Job

Take = Callable[[Request, Job | None, Callable[[], None]], object]


class Inbox:
    """Keeps requests in order until it is opened, then passes each on at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[Request, Job | None, Callable[[], None]]] = []
        self._take: Take | None = None
        self._closed = False

    def put(self, request: Request, job: Job | None, written: Callable[[], None]) -> None:
        """Raises ShuttingDown once nobody takes requests any more."""
        with self._lock:
            if self._closed:
                raise ShuttingDown("This kernel is leaving.")
            if self._take is None:
                self._waiting.append((request, job, written))
            else:
                self._take(request, job, written)

    def open(self, take: Take) -> None:
        """Pass on what waits and everything that comes; `take` may be called from any thread."""
        with self._lock:
            for item in self._waiting:
                take(*item)
            self._waiting.clear()
            self._take = take

    def close(self) -> None:
        """Refuse what comes from here on."""
        with self._lock:
            self._closed = True
