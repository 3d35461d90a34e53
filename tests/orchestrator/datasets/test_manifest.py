"""A job's manifest: whole or not there, and what is left to be done of it."""

from pathlib import Path

import msgspec
import pytest

from contract.methods.job import ManifestItem
from orchestrator.datasets.manifest import Left, Manifest, freeze, frozen, write_todo

ITEMS = [ManifestItem(path=f"/a/{number}.png", sha256="0" * 64, caption="ä\n") for number in range(5)]
WHOLE = Manifest(items=ITEMS, skipped=3, left=[Left(path="/a/x.png", error={"code": 1})])


def test_what_was_frozen_is_read_again(tmp_path: Path) -> None:
    assert frozen(tmp_path) is None
    freeze(tmp_path, WHOLE)
    found = frozen(tmp_path)
    assert found is not None
    assert (list(found.items), found.skipped, list(found.left)) == (ITEMS, 3, WHOLE.left)


@pytest.mark.parametrize("cut", [0, 10, -1])
def test_a_manifest_that_is_not_whole_is_none(tmp_path: Path, cut: int) -> None:
    freeze(tmp_path, WHOLE)
    file = tmp_path / "manifest.jsonl"
    file.write_bytes(file.read_bytes()[:cut])
    assert frozen(tmp_path) is None


def test_the_head_is_written_last(tmp_path: Path) -> None:
    freeze(tmp_path, WHOLE)
    (tmp_path / "manifest.json").unlink()
    assert frozen(tmp_path) is None


def test_what_is_done_is_not_to_do(tmp_path: Path) -> None:
    file, todo = write_todo(tmp_path, ITEMS, {"/a/1.png", "/a/4.png"})
    lines = file.read_bytes().splitlines()
    assert [each.path for each in todo] == ["/a/0.png", "/a/2.png", "/a/3.png"]
    assert [msgspec.json.decode(line)["path"] for line in lines] == [each.path for each in todo]
    again, _ = write_todo(tmp_path, ITEMS, set())
    assert again == file
