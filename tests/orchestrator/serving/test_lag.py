"""How late the event loop is."""

import time

import anyio
import pytest

from orchestrator.serving.lag import EVERY_S, Lag


@pytest.mark.anyio
async def test_a_loop_that_was_held_up_is_seen() -> None:
    lag = Lag()
    assert lag.worst_s == 0.0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lag.watch)
        with anyio.fail_after(10):
            while lag.worst_s < EVERY_S:
                await anyio.lowlevel.checkpoint()
                held_until = time.monotonic() + 3 * EVERY_S
                while time.monotonic() < held_until:
                    pass
        tasks.cancel_scope.cancel()
