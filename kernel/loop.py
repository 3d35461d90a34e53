"""The event loop: takes what the reader hands over, answers it through the dispatcher, ends in good order.

Imported only after `initialize` was answered, since jsonrpcserver takes a tenth of a second to load.
"""

import asyncio
from collections.abc import Callable

import anyio
import anyio.lowlevel
import anyio.to_thread

from contract.envelope import Request
from kernel.dispatch import Dispatcher
from kernel.inbox import Inbox
from kernel.installation import find_state
from kernel.jobs import Job
from kernel.methods import HANDLERS, JOB_HANDLERS
from kernel.session import Session

#: Seconds of the grace that are kept back for writing the last answers.
_RESERVE_S = 2.0


def run(session: Session, inbox: Inbox) -> None:
    """Serve until the kernel leaves, then let running jobs end within the grace."""
    anyio.run(_run, session, inbox)


async def _run(session: Session, inbox: Inbox) -> None:
    loop = asyncio.get_running_loop()
    dispatcher = Dispatcher(session, HANDLERS, JOB_HANDLERS)
    leaving = anyio.Event()

    async def answer(request: Request, job: Job | None, written: Callable[[], None]) -> None:
        try:
            line = await dispatcher.answer(request, job)
        except anyio.get_cancelled_exc_class():
            session.writer.reply(dispatcher.give_up(request, job), written)
            raise
        session.writer.reply(line, written)

    async with anyio.create_task_group() as tasks:
        session.lifetime.when_leaving(lambda: loop.call_soon_threadsafe(leaving.set))
        inbox.open(lambda *item: loop.call_soon_threadsafe(tasks.start_soon, answer, *item))
        tasks.start_soon(_announce, session)
        await leaving.wait()
        session.jobs.accepting = False
        inbox.close()
        # What came in before gets its task now.
        await anyio.lowlevel.checkpoint()
        session.jobs.cancel_all()
        tasks.cancel_scope.deadline = anyio.current_time() + session.lifetime.grace_s - _RESERVE_S


async def _announce(session: Session) -> None:
    state = await anyio.to_thread.run_sync(find_state, session.models.names, abandon_on_cancel=True)
    session.announce(state)
