"""Counts wrong secrets by who sent them, so that guessing is slow. Knows neither what was guessed nor why."""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from orchestrator.clock import now_ms

#: Wrong ones that are answered as such, a client and a minute.
LIMIT: Final = 10
WINDOW_MS: Final = 60_000
#: Clients that are remembered. Beyond it the one that was quiet longest is forgotten, so memory is bounded.
MAX_CLIENTS: Final = 1_024


class Attempts:
    """The wrong secrets of the last minute."""

    def __init__(self, clock: Callable[[], int] = now_ms) -> None:
        self._clock = clock
        self._times: OrderedDict[str, deque[int]] = OrderedDict()

    def add(self, client: str) -> int:
        """Note one more; the milliseconds after which another is answered, 0 while the limit is not reached.

        What comes beyond the limit is not counted, so that the wait ends when it was said to end.
        """
        times = self._of(client)
        now = self._clock()
        while times and times[0] <= now - WINDOW_MS:
            times.popleft()
        if len(times) >= LIMIT:
            return times[0] + WINDOW_MS - now
        times.append(now)
        return 0

    def _of(self, client: str) -> deque[int]:
        network = _network(client)
        times = self._times.setdefault(network, deque())
        self._times.move_to_end(network)
        if len(self._times) > MAX_CLIENTS:
            self._times.popitem(last=False)
        return times


def _network(client: str) -> str:
    """One machine has a whole /64 of IPv6 to send from."""
    from ipaddress import IPv6Address, ip_address

    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return client
    return str(int(address) >> 64) if isinstance(address, IPv6Address) else client
