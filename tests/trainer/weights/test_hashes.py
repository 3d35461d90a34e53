"""The hashes of a file, each held against the few lines by which its consumers compute it."""

import hashlib
import io
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from contract.errors import JobCanceled, WeightsChanged
from trainer.weights.hashes import FileHashes, file_hashes
from trainer.weights.tensor_file import open_weights


def _hashes(path: Path) -> FileHashes:
    with open_weights(str(path)) as file:
        return file_hashes(file)


def _legacy(path: Path, metadata: dict[str, str]) -> str:
    """As kohya-ss computes it: over what the library writes of the tensors and the training metadata."""
    training = {key: text for key, text in metadata.items() if key.startswith("ss_")}
    stream = io.BytesIO(save(load_file(path), training))
    stream.seek(0x100000)
    return hashlib.sha256(stream.read(0x10000)).hexdigest()[:8]


def _model(path: Path) -> str:
    """As Civitai and Forge compute it: of the file behind its header."""
    with path.open("rb") as stream:
        stream.seek(int.from_bytes(stream.read(8), "little"), os.SEEK_CUR)
        return hashlib.sha256(stream.read()).hexdigest()


#: float32 numbers of tensors: shorter than the place that is hashed, ending in it, and reaching over it.
_SIZES = [[1], [262_000, 500], [262_144 + 5000], [100_000, 100_000, 100_000, 100_000], [600_000, 3]]


@pytest.mark.parametrize("sizes", _SIZES)
@pytest.mark.parametrize("metadata", [{}, {"modelspec.title": "t"}, {"ss_a": "ü" * 999, "x": "y" * 5000}])
def test_every_hash_is_what_its_consumers_compute(
    sizes: list[int], metadata: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    save_file({f"t{index}": torch.randn(size) for index, size in enumerate(sizes)}, path, metadata)
    hashes = _hashes(path)
    assert hashes.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert hashes.model == _model(path)
    assert hashes.legacy == _legacy(path, metadata)
    assert hashes.autov2 == hashes.sha256[:10].upper()
    assert hashes.autov3 == hashes.model[:12].upper()


def test_the_model_hash_and_autov3_survive_other_metadata(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(400_000)}
    save_file(tensors, tmp_path / "one.safetensors", {"ss_a": "b"})
    save_file(tensors, tmp_path / "two.safetensors", {"ss_a": "b", "other": "text" * 99})
    one, two = (_hashes(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    assert one.sha256 != two.sha256
    assert (one.model, one.autov3, one.legacy) == (two.model, two.autov3, two.legacy)


def test_a_long_training_header_counts_in_the_legacy_hash(tmp_path: Path) -> None:
    """So long that the place that is hashed lies in it, or begins in it."""
    path = tmp_path / "x.safetensors"
    for length in (1_500_000, 0x100000 + 0x8000):
        metadata = {"ss_tag_frequency": "x" * length}
        save_file({"a": torch.randn(50_000)}, path, metadata)
        assert _hashes(path).legacy == _legacy(path, metadata)


def test_hashing_can_be_stopped_and_says_how_far_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.randn(700_000)}, path)
    seen: list[int] = []

    def checked(done: int) -> None:
        seen.append(done)
        if len(seen) == 2:
            raise JobCanceled("enough")

    with open_weights(str(path)) as file:
        with pytest.raises(JobCanceled):
            file_hashes(file, checked)
        assert seen == [1 << 20, 2 << 20]
        os.truncate(path, 1000)
        with pytest.raises(WeightsChanged):
            file_hashes(file)
