"""The small models, once for all tests here, and the pipelines of diffusers that know what is right."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from trainer import fixtures
from trainer.fixtures import Fixture

Edit = Callable[[dict[str, torch.Tensor]], None]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Fixture]:
    folder = tmp_path_factory.mktemp("models")
    return {family: fixtures.write(family, folder, dtype="fp32") for family in fixtures.FAMILIES}


@pytest.fixture(scope="session")
def pipelines(models: Mapping[str, Fixture]) -> Mapping[str, Any]:
    """From the folders."""
    return {
        family: getattr(diffusers, fixtures.FAMILIES[family].pipeline).from_pretrained(
            model.folder, local_files_only=True
        )
        for family, model in models.items()
    }


@pytest.fixture(params=fixtures.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def edited(models: Mapping[str, Fixture], tmp_path: Path) -> Callable[..., Path]:
    """Writes the single file of a family again, changed by a function and with some metadata."""

    def write(family: str, edit: Edit | None = None, **metadata: str) -> Path:
        tensors = load_file(models[family].file)
        if edit is not None:
            edit(tensors)
        path = tmp_path / "edited.safetensors"
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata=metadata)
        return path

    return write
