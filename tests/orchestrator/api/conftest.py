"""A studio on a directory of its own, and a client that reaches it without a socket and without the guard."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from orchestrator.serving.app import make_app
from orchestrator.studio import Studio, open_studio


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    async with open_studio(tmp_path / "home") as opened:
        yield opened


@pytest.fixture
async def client(studio: Studio) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(make_app(studio))
    async with httpx.AsyncClient(transport=transport, base_url="http://studio/api/v1") as opened:
        yield opened
