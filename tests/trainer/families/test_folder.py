"""Which files of a folder of diffusers are read."""

from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from contract.errors import FileMissing, FileUnreadable, WeightsFormat, WeightsIncomplete
from trainer.families.folder import config, layout, open_part, text_layout


def write(folder: Path, name: str, *keys: str) -> None:
    save_file({key: torch.zeros(1) for key in keys}, folder / name)


def chosen(folder: Path) -> list[str]:
    with ExitStack() as stack:
        return [Path(file.path).name for file in open_part(str(folder), stack)]


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["model.safetensors", "model.fp16.safetensors"], ["model.safetensors"]),
        (["model.fp16.safetensors", "model.non_ema.safetensors"], ["model.fp16.safetensors"]),
        (["diffusion_pytorch_model.safetensors", "adapter.safetensors"], None),
        (["model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors"], None),
    ],
)
def test_the_fullest_variant_is_taken(tmp_path: Path, names: list[str], taken: list[str] | None) -> None:
    for name in names:
        write(tmp_path, name, "a")
    wanted = taken or [name for name in sorted(names) if "adapter" not in name]
    assert chosen(tmp_path) == wanted


def test_parts_of_a_divided_file_are_put_together(tmp_path: Path) -> None:
    for number in (1, 2):
        write(tmp_path, f"diffusion_pytorch_model.fp16-0000{number}-of-00002.safetensors", f"key{number}")
    with ExitStack() as stack:
        assert set(layout(open_part(str(tmp_path), stack))) == {"key1", "key2"}


def test_a_missing_part_a_missing_file_and_pickles_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="no file of weights"):
        chosen(tmp_path)
    (tmp_path / "model.bin").write_bytes(b"PK")
    with pytest.raises(WeightsFormat, match="pickles"):
        chosen(tmp_path)
    write(tmp_path, "model-00001-of-00003.safetensors", "a")
    with pytest.raises(WeightsIncomplete, match="1 of 3 files"):
        chosen(tmp_path)
    with pytest.raises(FileMissing):
        chosen(tmp_path / "nothing")


def test_text_encoders_of_every_version_of_transformers_have_the_same_names(tmp_path: Path) -> None:
    """5.6 left `text_model.` out; before 4.31, the numbers of the positions were saved too."""
    write(tmp_path, "model.safetensors", "embeddings.x", "text_model.y", "text_projection.weight")
    write(tmp_path, "model.fp16.safetensors", "text_model.embeddings.position_ids")
    with ExitStack() as stack:
        new = text_layout(open_part(str(tmp_path), stack))
        assert set(new) == {"text_model.embeddings.x", "text_model.y", "text_projection.weight"}
        (tmp_path / "model.safetensors").unlink()
        assert text_layout(open_part(str(tmp_path), stack)) == {}


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1]", b"{", b"[" * 100_000])
def test_what_is_no_configuration_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(FileUnreadable):
        config(str(tmp_path))
