"""What is known of a run before torch is loaded."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.errors import FileMissing, InvalidParams, LorakeetError, WeightsMismatch
from tests.trainer.run import runs
from trainer.run.preflight import known_of
from trainer.run.request import Request


@pytest.fixture
def asked(bases: Mapping[str, Path], tmp_path: Path) -> Request:
    return runs.request(bases["sd15"], tmp_path / "source", tmp_path)


def test_knows_the_model_and_its_parts(bases: Mapping[str, Path], family: str, tmp_path: Path) -> None:
    known = known_of(runs.request(bases[family], tmp_path / "source", tmp_path))
    assert (known.family.name, known.size, known.prompts) == (family, 64, [])
    assert len({known.denoiser, known.vae, known.text}) == 3


def test_prompts_have_the_size_that_is_trained(bases: Mapping[str, Path], tmp_path: Path) -> None:
    sampling = {"prompts": ["a cat", "a dog --w 128"], "every_steps": 1}
    known = known_of(runs.request(bases["sd15"], tmp_path, tmp_path / "run", sampling=sampling))
    assert [(each.width, each.height) for each in known.prompts] == [(64, 64), (128, 64)]


@pytest.mark.parametrize(
    ("fields", "error", "where"),
    [
        ({"output": "{}/cat.ckpt"}, InvalidParams, "$.params.outputs.file"),
        ({"output": "{}/gone/cat.safetensors"}, FileMissing, "$.params.outputs.file"),
        ({"checkpoint": "{}/gone"}, FileMissing, "{}/gone"),
        ({"model": "{}/gone.safetensors"}, FileMissing, "{}/gone.safetensors"),
        ({"vae": "{}/gone.safetensors"}, FileMissing, "{}/gone.safetensors"),
    ],
    ids=str,
)
def test_what_is_not_there_is_told_by_its_place(
    fields: dict[str, str], error: type[LorakeetError], where: str, asked: Request, tmp_path: Path
) -> None:
    placed = {name: value.format(tmp_path) for name, value in fields.items()}
    with pytest.raises(error) as told:
        known_of(msgspec.structs.replace(asked, **placed))
    assert told.value.where == where.format(tmp_path)


@pytest.mark.parametrize(
    ("tables", "error", "where"),
    [
        ({"model": {"family": "sdxl"}}, WeightsMismatch, "model.family"),
        ({"optimizer": {"type": "adamw", "rates": {"te2": 1e-4}}}, InvalidParams, 'optimizer.rates["te2"]'),
    ],
    ids=["family", "rates"],
)
def test_what_is_for_another_family_is_told_by_its_field(
    tables: dict[str, Any], error: type[LorakeetError], where: str, bases: Mapping[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(error) as told:
        known_of(runs.request(bases["sd15"], tmp_path / "source", tmp_path, **tables))
    assert told.value.where == f"$.params.settings.{where}"


def test_rates_that_train_nothing_of_the_model_are_told(bases: Mapping[str, Path], tmp_path: Path) -> None:
    # SDXL alone has a second encoder.
    tables = {"optimizer": {"type": "adamw", "learning_rate": 0.0, "rates": {"te2": 1e-4}}}
    known_of(runs.request(bases["sdxl"], tmp_path / "source", tmp_path, **tables))
    tables = {
        "optimizer": {"type": "adamw", "learning_rate": 0.0, "text_encoder_rate": 0.1, "rates": {"te1": 0.0}}
    }
    with pytest.raises(InvalidParams, match="Every learning rate is 0") as told:
        known_of(runs.request(bases["sd15"], tmp_path / "source", tmp_path, **tables))
    assert told.value.where == "$.params.settings.optimizer.learning_rate"


def test_a_model_is_no_lora_to_start_from(bases: Mapping[str, Path], tmp_path: Path) -> None:
    tables = {"network": {"start_from": {"path": str(bases["sd15"])}}}
    with pytest.raises(WeightsMismatch, match="is no LoRA") as told:
        known_of(runs.request(bases["sd15"], tmp_path / "source", tmp_path, **tables))
    assert told.value.where == "$.params.settings.network.start_from"


def test_is_known_without_torch() -> None:
    code = "import sys, trainer.run.preflight; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
