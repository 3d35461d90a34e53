"""What every test may use: real photographs, the demo tagger, and a Python that has the project installed."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def anyio_backend() -> str:
    """jsonrpcserver speaks asyncio only, so nothing of ours is tried elsewhere."""
    return "asyncio"


@pytest.fixture(scope="session")
def demo_tagger() -> Path:
    """The small tagger that ships with the kernel; its tags follow from the pixels."""
    return ROOT / "kernel" / "data" / "demo-tagger"
