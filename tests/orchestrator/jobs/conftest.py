"""A studio whose kernels do as they are told."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.jobs import attempt, conversation, waiting
from tests.orchestrator.jobs.deeds import Bench, open_bench


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for as long as users do."""
    monkeypatch.setattr(waiting, "RETRY_S", 0.01)
    monkeypatch.setattr(attempt, "SETTLE_S", 0.01)
    monkeypatch.setattr(conversation, "PING_S", 0.4)
    monkeypatch.setattr(conversation, "PONG_S", 0.4)
    monkeypatch.setattr("orchestrator.hosting.restarts.FIRST_PAUSE_S", 0.01)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as opened:
        yield opened
