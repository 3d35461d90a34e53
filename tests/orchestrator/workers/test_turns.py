"""Who is let in next."""

import anyio
import pytest

from orchestrator.groups import task_group
from orchestrator.workers.turns import Priority, Ticket, Turns

pytestmark = pytest.mark.anyio


class Queue:
    """People who each keep their turn until they are told to leave; `inside` in the order of entry."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.inside: list[str] = []
        self.tickets: dict[str, Ticket] = {}
        self.leave: dict[str, anyio.Event] = {}
        self.scopes: dict[str, anyio.CancelScope] = {}

    async def come(self, name: str, priority: Priority) -> None:
        self.tickets[name], self.leave[name] = Ticket(priority), anyio.Event()
        self.scopes[name] = anyio.CancelScope()
        with self.scopes[name]:
            async with self.turns.turn(self.tickets[name]):
                self.inside.append(name)
                await self.leave[name].wait()


async def settled() -> None:
    await anyio.wait_all_tasks_blocked()


async def test_what_somebody_waits_for_goes_before_bulk_work() -> None:
    queue = Queue(Turns(1))
    priorities: dict[str, Priority] = {"a": "bulk", "b": "bulk", "c": "interactive", "d": "interactive"}
    async with task_group() as tasks:
        for name, priority in priorities.items():
            tasks.start_soon(queue.come, name, priority)
            await settled()
        for name in "acdb":
            await settled()
            assert queue.inside[-1] == name
            queue.leave[name].set()
    assert queue.inside == list("acdb")


async def test_bulk_work_leaves_one_turn_free() -> None:
    queue = Queue(Turns(3))
    async with task_group() as tasks:
        for name in "abc":
            tasks.start_soon(queue.come, name, "bulk")
        await settled()
        assert sorted(queue.inside) == ["a", "b"]
        tasks.start_soon(queue.come, "d", "interactive")
        await settled()
        assert queue.inside[-1] == "d"
        tasks.cancel_scope.cancel()


async def test_bulk_work_that_somebody_waits_for_moves_forward() -> None:
    queue = Queue(Turns(1))
    async with task_group() as tasks:
        for name in "abc":
            tasks.start_soon(queue.come, name, "bulk")
            await settled()
        queue.turns.hurry(queue.tickets["c"])
        queue.turns.hurry(queue.tickets["a"])
        for name in "acb":
            await settled()
            assert queue.inside[-1] == name
            queue.leave[name].set()


async def test_a_ticket_that_is_hurried_before_it_waits_waits_among_the_first() -> None:
    turns, ticket = Turns(2), Ticket("bulk")
    async with turns.turn(Ticket("bulk")):
        turns.hurry(ticket)
        with anyio.fail_after(5):
            async with turns.turn(ticket):
                assert ticket.priority == "interactive"


async def test_who_is_canceled_while_waiting_loses_nobody_a_turn() -> None:
    queue = Queue(Turns(1))
    async with task_group() as tasks:
        for name in "abc":
            tasks.start_soon(queue.come, name, "interactive")
            await settled()
        queue.scopes["b"].cancel()
        queue.leave["a"].set()
        await settled()
        assert queue.inside == ["a", "c"]
        queue.leave["c"].set()


async def test_who_is_canceled_in_the_moment_of_being_let_in_hands_the_turn_on() -> None:
    queue = Queue(Turns(1))
    async with task_group() as tasks:
        for name in "abc":
            tasks.start_soon(queue.come, name, "interactive")
            await settled()
        queue.scopes["a"].cancel()
        # Canceled in the same step in which `a` leaves: `b` has its ticket, but has not run yet.
        while not queue.tickets["b"].granted.is_set():
            await anyio.lowlevel.checkpoint()
        queue.scopes["b"].cancel()
        await settled()
        assert queue.inside[-1] == "c"
        queue.leave["c"].set()
