import sys

import psutil
import pytest

from contract.errors import KernelUnavailable
from orchestrator.hosting import process

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("program", ["no-such-program", "a\0b", "caf\udce9"])
async def test_what_cannot_be_started_is_named_in_text_that_can_travel(program: str) -> None:
    with pytest.raises(KernelUnavailable) as caught:
        await process.spawn([program])
    caught.value.message.encode("utf-8")
    assert "cannot be started" in caught.value.message


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")
async def test_a_process_that_steps_back_gives_way_and_leaves_no_image_of_its_memory() -> None:
    started = await process.spawn([sys.executable, "-c", "import sys; sys.stdin.read()"])
    try:
        process.step_back(started.pid)
        assert psutil.Process(started.pid).nice() == psutil.Process().nice() + 5
        assert psutil.Process(started.pid).rlimit(psutil.RLIMIT_CORE) == (0, 0)
    finally:
        process.kill(started)
        assert await process.ended(started, 10)
        await started.aclose()


async def test_a_process_that_has_ended_cannot_step_back_and_nothing_happens() -> None:
    process.step_back(2**22 + 1)
