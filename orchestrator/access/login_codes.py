"""One-time codes: each logs one browser in, within ten minutes. In memory alone, and only their digests."""

from collections.abc import Callable
from typing import Final

from orchestrator.access.secret import digest, match, new_secret

GOOD_FOR_MS: Final = 10 * 60_000
#: The newest that are good; whoever asks for more has lost the older ones.
MAX_CODES: Final = 20


class LoginCodes:
    """The codes that were made and not used yet."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._ends_ms: dict[bytes, int] = {}

    def make(self) -> str:
        """A new code."""
        code = new_secret()
        self._ends_ms[digest(code)] = self._clock() + GOOD_FOR_MS
        if len(self._ends_ms) > MAX_CODES:
            del self._ends_ms[next(iter(self._ends_ms))]
        return code

    def use(self, code: str) -> bool:
        """Whether `code` is good; it is not any more then."""
        wanted = digest(code)
        ends_ms = match(wanted, self._ends_ms.items())
        if ends_ms is None:
            return False
        del self._ends_ms[wanted]
        return ends_ms > self._clock()

    def clear(self) -> None:
        """Make every code useless."""
        self._ends_ms.clear()
