"""`lorakeet demo`: everything once, and what it is made of."""

import os
from pathlib import Path

import pytest
from PIL import Image

from orchestrator.cli.demo import TRAINING
from orchestrator.cli.drawings import draw
from orchestrator.cli.training_file import Layer, told_from, training_of
from orchestrator.models.header import read_header
from tests.orchestrator.cli.command import lorakeet, with_startup_code


def test_the_drawings_are_different_pictures_and_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        assert draw(tmp_path / name) == 6
    first, second = ([path.read_bytes() for path in sorted((tmp_path / name).iterdir())] for name in "ab")
    assert first == second and len(set(first)) == 6
    for path in (tmp_path / "a").iterdir():
        with Image.open(path) as picture:
            colours = picture.getcolors(1 << 16)
        assert colours is not None and len(colours) >= 3


def test_its_training_is_one(tmp_path: Path) -> None:
    training = training_of([Layer("demo.toml", told_from(str(tmp_path), TRAINING))], "demo.toml")
    assert training.model.base.path == str(tmp_path / "models" / "sdxl.safetensors")
    assert training.output is not None and training.output.folder == str(tmp_path)


def test_a_folder_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    done = lorakeet("demo", "--folder", tmp_path)
    assert done.code == 3 and "is in use" in done.stderr
    assert os.listdir(tmp_path) == ["models"]


@pytest.mark.slow
def test_it_ends_with_a_lora_and_its_samples(tmp_path: Path) -> None:
    smaller = with_startup_code(
        tmp_path,
        """
        from orchestrator.cli import demo

        demo._FAMILY = "sd15"
        demo.TRAINING["model"]["base"] = "models/sd15.safetensors"
        demo.TRAINING["training"]["steps"] = 1
        demo.TRAINING["sampling"]["steps"] = 1
        """,
    )
    done = lorakeet("demo", "--folder", tmp_path / "demo", env=smaller | {"OMP_NUM_THREADS": "1"})
    assert done.code == 0, done.stderr
    said = done.stdout.splitlines()[-3:]
    assert said[0].endswith("demo-small.safetensors") and said[1] == "samples"
    assert Path(said[2].strip()).is_file()


@pytest.mark.slow
def test_everything_is_done_once(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    done = lorakeet("demo", "--folder", folder, "--json")
    assert done.code == 0, done.stdout
    assert done.stderr == ""
    assert len(done.of("tagged")) == 6 and all(each["caption"] for each in done.of("tagged"))
    assert [each["command"] and each["command"][1] for each in done.of("step")] == [
        None, "tag", "train", "resize",
    ]  # fmt: skip
    (made,) = done.of("made")
    loras, samples = [Path(each) for each in made["loras"]], [Path(each) for each in made["samples"]]
    assert [path.name for path in loras] == ["demo.safetensors", "demo-small.safetensors"]
    assert [read_header(str(path)).metadata["ss_network_dim"] for path in loras] == ["8", "4"]
    assert len(samples) == 3 and len({path.read_bytes() for path in samples}) == 3
    assert all(path.is_relative_to(folder) for path in (*loras, *samples))
