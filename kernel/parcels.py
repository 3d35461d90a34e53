"""Finished items on their way to the host, in parcels: few messages, however fast the job is.

Every message costs a host time. One that takes 2 ms for each falls hundreds behind a job that reports every
picture by itself, and a cancel would wait behind all of them.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Final, Self

from contract.envelope import encode

#: Bytes of one parcel at most, unless one item alone has more.
MAX_BYTES: Final = 256 * 1024


class Parcels:
    """Collects items for at most `interval_s`, then hands them to `send` as (items, failed).

    Items and failures are weighed as they travel: a parcel has at most `max_bytes`, or one item alone.
    The first parcel leaves at once, and the last at the end of the `with` block. `send` may block: then so
    does `add`.
    """

    def __init__(
        self,
        send: Callable[[list[Any], list[Any]], None],
        *,
        interval_s: float,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._send = send
        self._interval_s = interval_s
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._items: list[Any] = []
        self._failed: list[Any] = []
        self._bytes = 0
        self._due = 0.0
        self._timer: threading.Timer | None = None

    def add(self, items: list[Any], failed: list[Any]) -> None:
        """Send them with the next parcel, which may be now."""
        with self._lock:
            for item in items:
                self._make_room(weight(item))
                self._items.append(item)
            for failure in failed:
                self._make_room(weight(failure))
                self._failed.append(failure)
            self._send_when_due()

    def flush(self) -> None:
        """Send what waits, before something that belongs behind it."""
        with self._lock:
            self._send_off()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._send_off()

    def _make_room(self, wanted: int) -> None:
        if self._bytes + wanted > self._max_bytes:
            self._send_off()
        self._bytes += wanted

    def _send_when_due(self) -> None:
        wait_s = self._due - time.monotonic()
        if wait_s <= 0:
            self._send_off()
        elif self._timer is None:
            self._timer = threading.Timer(wait_s, self._on_time)
            self._timer.daemon = True
            self._timer.start()

    def _on_time(self) -> None:
        with self._lock:
            self._timer = None
            self._send_off()

    def _send_off(self) -> None:
        items, failed = self._items, self._failed
        if items or failed:
            self._items, self._failed, self._bytes = [], [], 0
            self._send(items, failed)
            self._due = time.monotonic() + self._interval_s


def weight(item: Any) -> int:
    """The bytes that `item` has on the wire."""
    return len(encode(item))
