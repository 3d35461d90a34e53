"""Memory that decoding threads share, so that many large pictures at once do not add up to all there is."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """So many bytes in all. Whoever wants more than there is waits until others have given theirs back.

    A thread takes one share at a time, so nobody waits for somebody who waits. A share of more than the whole
    is the whole: one picture can always be decoded.
    """

    def __init__(self, whole: int) -> None:
        self._whole = whole
        self._free = whole
        self._changed = threading.Condition()

    @contextmanager
    def share(self, wanted: int) -> Iterator[None]:
        """Have `wanted` bytes for the length of the `with` block."""
        taken = min(wanted, self._whole)
        with self._changed:
            self._changed.wait_for(lambda: taken <= self._free)
            self._free -= taken
        try:
            yield
        finally:
            with self._changed:
                self._free += taken
                self._changed.notify_all()
