"""The small models, written once for all tests of networks."""

from pathlib import Path
from typing import Any

import pytest

from tests.trainer.networks.parts import fixture, pipeline
from trainer.fixtures import Fixture


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where they are."""
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(params=["sd15", "sdxl"])
def model(request: pytest.FixtureRequest, models_folder: Path) -> Fixture:
    """Both of them."""
    return fixture(request.param, models_folder)


@pytest.fixture
def sd15(models_folder: Path) -> Any:
    """The pipeline of the small SD1.5, fresh."""
    return pipeline(fixture("sd15", models_folder))
