"""Pictures on the disk, and decoding in the test's own process as a worker does it in its own."""

from pathlib import Path

import pytest
from PIL import Image

from tests.builders.pictures import NASTY, ZOO, write


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every form of picture, which no test changes."""
    folder = tmp_path_factory.mktemp("zoo")
    write(folder, ZOO + NASTY)
    return folder


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks set Pillow's limit for the whole process."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
