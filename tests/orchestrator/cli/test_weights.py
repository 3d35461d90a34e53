"""Files of weights as they are written on a command line."""

import argparse
import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.weights import new_file, weighted_lora, weighted_model


def _here(name: str) -> dict[str, str]:
    return {"path": os.path.abspath(name)}


@pytest.mark.parametrize(
    ("text", "path", "rest"),
    [
        ("a.safetensors", "a.safetensors", {}),
        ("a.safetensors:0.8", "a.safetensors", {"weight": 0.8}),
        ("a:-1", "a", {"weight": -1.0}),
        ("a:+.5e-1", "a", {"weight": 0.05}),
        ("a:2,unet=1,te1=0", "a", {"weight": 2.0, "components": {"unet": 1.0, "te1": 0.0}}),
        ("a:unet=1,IN04=0.5", "a", {"components": {"unet": 1.0}, "blocks": {"IN04": 0.5}}),
        ("a:b:0.5", "a:b", {"weight": 0.5}),
        # A drive of Windows is no file, and what follows it no weight.
        ("C:\\loras\\a.safetensors", "C:\\loras\\a.safetensors", {}),
        ("C:\\loras\\a.safetensors:0.5", "C:\\loras\\a.safetensors", {"weight": 0.5}),
        ("C:/loras/a.safetensors:0.5", "C:/loras/a.safetensors", {"weight": 0.5}),
        # Neither are these weights.
        ("a:", "a:", {}),
        ("a:0.8x", "a:0.8x", {}),
        ("a:0.8unet=1", "a:0.8unet=1", {}),
        (":0.5", ":0.5", {}),
    ],
)
def test_a_weight_follows_the_last_colon(text: str, path: str, rest: dict[str, Any]) -> None:
    assert weighted_lora(text) == {"model": _here(path), **rest}


def test_a_file_that_is_called_so_wins(tmp_path: Path) -> None:
    (tmp_path / "a:0.5").touch()
    assert weighted_lora(f"{tmp_path}/a:0.5") == {"model": {"path": f"{tmp_path}/a:0.5"}}


@pytest.mark.parametrize("weight", ["0,8", "abc", "", "0.8,te1"])
def test_what_follows_a_file_that_is_there_and_is_no_weight_is_refused(tmp_path: Path, weight: str) -> None:
    (tmp_path / "a.safetensors").touch()
    with pytest.raises(argparse.ArgumentTypeError, match=r"a\.safetensors` is no weight"):
        weighted_lora(f"{tmp_path}/a.safetensors:{weight}")


def test_a_checkpoint_has_weights_by_block() -> None:
    assert weighted_model("a:0.3,blocks=GRAD_V") == {
        "model": _here("a"),
        "weight": 0.3,
        "blocks": "GRAD_V",
    }
    assert weighted_model("a:blocks=0/0.5/1") == {"model": _here("a"), "blocks": [0.0, 0.5, 1.0]}
    assert weighted_model("a:1") == {"model": _here("a"), "weight": 1.0}


def test_what_is_no_weight_is_said() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="`x` is no number"):
        weighted_lora("a:1,unet=x")
    with pytest.raises(argparse.ArgumentTypeError, match="`unet`: a checkpoint has a weight"):
        weighted_model("a:1,unet=0")
    with pytest.raises(argparse.ArgumentTypeError, match="name a file"):
        weighted_lora("")


def test_an_output_gets_its_ending_and_is_no_folder(tmp_path: Path) -> None:
    assert new_file(f"{tmp_path}/c") == f"{tmp_path}/c.safetensors"
    assert new_file(f"{tmp_path}/c.SAFETENSORS") == f"{tmp_path}/c.SAFETENSORS"
    assert new_file(f"{tmp_path}/v1.5") == f"{tmp_path}/v1.5.safetensors"
    for folder in (str(tmp_path), f"{tmp_path}/new/"):
        with pytest.raises(argparse.ArgumentTypeError, match="is a folder"):
            new_file(folder)
