"""How late the event loop is: what a request waits before anybody even looks at it."""

from collections import deque
from typing import Final

import anyio

#: Seconds between two looks.
EVERY_S: Final = 0.25
#: Looks that count: those of the last ten seconds.
_KEPT: Final = 40


class Lag:
    """The delays of the last ten seconds."""

    def __init__(self) -> None:
        self._delays_s: deque[float] = deque(maxlen=_KEPT)

    @property
    def worst_s(self) -> float:
        """The longest of them, in seconds."""
        return max(self._delays_s, default=0.0)

    async def watch(self) -> None:
        """Look on, until canceled."""
        while True:
            due = anyio.current_time() + EVERY_S
            await anyio.sleep_until(due)
            self._delays_s.append(max(0.0, anyio.current_time() - due))
