"""Hashes of the files of a run."""

import hashlib
import os
from pathlib import Path

import pytest

from contract.errors import FileUnreadable, WeightsChanged
from contract.methods.weights import WeightsFile
from trainer.run.hashed import Hashes, old_hash

CONTENT = b"weights" * 1000


def _nothing() -> None:
    """Nobody is waiting."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(CONTENT)
    return path


def test_a_file_has_the_hash_of_its_bytes(model: Path, tmp_path: Path) -> None:
    with Hashes(str(tmp_path / "cache")) as hashes:
        hashes.begin(str(model), None)
        found = hashes.of(str(model), _nothing)
    assert found.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert found.old == old_hash(str(model)) == hashlib.sha256(b"").hexdigest()[:8]


def test_what_was_hashed_before_is_not_read_again(model: Path, tmp_path: Path) -> None:
    with Hashes(str(tmp_path)) as hashes:
        first = hashes.of(str(model), _nothing)
    status = model.stat()
    model.write_bytes(b"W" * len(CONTENT))
    os.utime(model, ns=(status.st_atime_ns, status.st_mtime_ns))
    with Hashes(str(tmp_path)) as hashes:
        assert hashes.of(str(model), _nothing).sha256 == first.sha256
    os.utime(model, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with Hashes(str(tmp_path)) as hashes:
        assert hashes.of(str(model), _nothing).sha256 != first.sha256


@pytest.mark.parametrize("raw", [b"", b"[1]", b'{"\xff": [[1], "a"]}', b'{"a": 1'])
def test_a_damaged_memory_is_none(raw: bytes, model: Path, tmp_path: Path) -> None:
    (tmp_path / "hashes.json").write_bytes(raw)
    with Hashes(str(tmp_path)) as hashes:
        assert hashes.of(str(model), _nothing).sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_a_folder_has_the_hash_of_its_files_of_weights(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder / "unet").mkdir(parents=True)
        (tmp_path / folder / "unet" / "a.safetensors").write_bytes(CONTENT)
    (tmp_path / "two" / "readme.md").write_text("no weights")
    with Hashes(str(tmp_path)) as hashes:
        one = hashes.of(str(tmp_path / "one"), _nothing)
        assert hashes.of(str(tmp_path / "two"), _nothing) == one
        assert one.old is None
    (tmp_path / "two" / "unet" / "a.safetensors").rename(tmp_path / "two" / "b.safetensors")
    with Hashes(str(tmp_path)) as hashes:
        assert hashes.of(str(tmp_path / "two"), _nothing).sha256 != one.sha256


def test_another_file_than_the_one_that_is_meant_is_refused(model: Path, tmp_path: Path) -> None:
    meant = WeightsFile(path=str(model), sha256="0" * 64)
    with Hashes(str(tmp_path)) as hashes:
        with pytest.raises(WeightsChanged, match="model.safetensors"):
            hashes.check(str(model), meant, _nothing)
        hashes.check(str(model), WeightsFile(path=str(model)), _nothing)
        hashes.check(None, meant, _nothing)


def test_a_file_that_is_gone_is_told_by_its_name(tmp_path: Path) -> None:
    with Hashes(str(tmp_path)) as hashes, pytest.raises(FileUnreadable, match="gone.safetensors"):
        hashes.of(str(tmp_path / "gone.safetensors"), _nothing)
