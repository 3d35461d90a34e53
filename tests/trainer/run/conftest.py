"""What all trainings here share."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.trainer.run import runs
from trainer import fixtures


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small models."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Family → its small model in a single file."""
    folder = tmp_path_factory.mktemp("bases")
    return {family: Path(fixtures.write(family, folder, dtype="fp32").file) for family in fixtures.FAMILIES}


@pytest.fixture(params=fixtures.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a subset of pictures."""
    return runs.pictures(tmp_path / "source")
