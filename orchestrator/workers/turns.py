"""Whose turn it is: so many at a time, what somebody waits for first, then bulk work, each in its order."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal

import anyio

#: `interactive`: somebody looks at the place where the result will be. `bulk`: nobody waits for this one.
Priority = Literal["interactive", "bulk"]


class Ticket:
    """A place among those who wait, for one turn."""

    def __init__(self, priority: Priority) -> None:
        self.priority = priority
        self.granted = anyio.Event()


class Turns:
    """`count` at a time. Bulk work leaves one of them free, where there is more than one."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._free_for_bulk = max(1, count - 1)
        self._waiting: Final[dict[Priority, deque[Ticket]]] = {"interactive": deque(), "bulk": deque()}

    @asynccontextmanager
    async def turn(self, ticket: Ticket) -> AsyncIterator[None]:
        """Wait for a turn, and have it while the block lasts."""
        await self._wait(ticket)
        try:
            yield
        finally:
            self._give_back(ticket)

    def hurry(self, ticket: Ticket) -> None:
        """Somebody waits for it now. Changes nothing for one that has its turn."""
        if ticket.granted.is_set():
            return
        ticket.priority = "interactive"
        if ticket in self._waiting["bulk"]:
            self._waiting["bulk"].remove(ticket)
            self._waiting["interactive"].append(ticket)
            self._grant()

    async def _wait(self, ticket: Ticket) -> None:
        self._waiting[ticket.priority].append(ticket)
        self._grant()
        try:
            await ticket.granted.wait()
        except BaseException:
            if ticket.granted.is_set():
                self._give_back(ticket)
            else:
                self._waiting[ticket.priority].remove(ticket)
            raise

    def _grant(self) -> None:
        while (priority := self._next()) is not None:
            self._count(priority, -1)
            self._waiting[priority].popleft().granted.set()

    def _next(self) -> Priority | None:
        if self._free and self._waiting["interactive"]:
            return "interactive"
        if self._free and self._free_for_bulk and self._waiting["bulk"]:
            return "bulk"
        return None

    def _give_back(self, ticket: Ticket) -> None:
        self._count(ticket.priority, +1)
        self._grant()

    def _count(self, priority: Priority, by: int) -> None:
        self._free += by
        self._free_for_bulk += by * (priority == "bulk")
