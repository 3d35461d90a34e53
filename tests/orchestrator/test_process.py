import pytest

from contract.errors import KernelUnavailable
from orchestrator import process

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("program", ["no-such-program", "a\0b", "caf\udce9"])
async def test_what_cannot_be_started_is_named_in_text_that_can_travel(program: str) -> None:
    with pytest.raises(KernelUnavailable) as caught:
        await process.spawn([program])
    caught.value.message.encode("utf-8")
    assert "cannot be started" in caught.value.message
