"""A folder of real photographs, and a data directory of its own for every test."""

import shutil
from pathlib import Path

import pytest
import skimage

SHIPPED = Path(skimage.__file__).parent / "data"
#: Photographs that scikit-image ships, and what the demo tagger says of them.
CAPTIONS = {
    "astronaut.png": "red, bright above, square image, high contrast",
    "chelsea.png": "wide image, red",
    "coffee.png": "red, wide image, bright above, crimson knight (palette)",
    "rocket.jpg": "wide image, dark, blue",
}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORAKEET_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LORAKEET_KERNEL", raising=False)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name in CAPTIONS:
        shutil.copy(SHIPPED / name, folder / name)
    return folder
