"""A studio in which no job runs, and one dataset in it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.orchestrator.datasets.shelf import Shelf, open_shelf


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    async with open_shelf(tmp_path / "home") as opened:
        yield opened
