"""A studio of its own for every test, and one dataset in it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.orchestrator.datasets.shelf import Shelf, copy_photographs, open_shelf


@pytest.fixture
async def empty(tmp_path: Path) -> AsyncIterator[Shelf]:
    """A dataset without images."""
    async with open_shelf(tmp_path / "home") as shelf:
        yield shelf


@pytest.fixture
async def shelf(empty: Shelf) -> Shelf:
    """A dataset of four photographs that are known."""
    copy_photographs(empty.folder)
    await empty.look()
    return empty
