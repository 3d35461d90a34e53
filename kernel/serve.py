"""Puts the kernel together: reader, writer, session, and, once somebody has shaken hands, the loop."""

import time

from kernel.descriptors import Wire
from kernel.inbox import Inbox
from kernel.lifetime import EXIT_BUG, EXIT_PARENT_GONE, Lifetime, Watch
from kernel.reader import Reader
from kernel.session import Session
from kernel.writer import Writer


def serve(wire: Wire, lifetime: Lifetime, watch: Watch) -> int:
    """Serve one host until the kernel leaves; the exit code."""
    writer = Writer(
        wire.writing,
        lost=lambda: lifetime.leave("nobody reads any more", EXIT_PARENT_GONE),
        broken=lambda: lifetime.leave("the writer has a bug", EXIT_BUG),
    )
    session = Session(lifetime, watch, writer)
    writer.max_line = lambda: session.limits.max_message_bytes
    inbox = Inbox()
    writer.start()
    Reader(wire.reading, session, inbox.put).start()
    session.ready.wait()
    if session.level is not None:
        # Even if the kernel leaves already: what was read before the end of stdin gets its answer.
        from kernel.loop import run

        run(session, inbox)
    writer.close(timeout_s=max(0.0, lifetime.deadline - time.monotonic() - 0.5))
    return lifetime.finish()
