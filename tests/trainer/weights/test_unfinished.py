"""Unfinished files: those of the dead are cleared away, those of the living never."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from contract.errors import FileUnwritable
from trainer.weights.unfinished import Unfinished

_HOLD = """
import sys
from trainer.weights.unfinished import Unfinished
print(Unfinished(sys.argv[1]).name, flush=True)
input()
"""


def _parts(folder: Path) -> list[str]:
    return sorted(str(folder / name) for name in os.listdir(folder) if name.endswith(".part"))


@pytest.mark.skipif(sys.platform == "win32", reason="no kill -9 there")
def test_the_file_of_a_killed_process_is_cleared_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "x.safetensors")
    command = [sys.executable, "-c", _HOLD, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        held = other.stdout.readline().strip()
        mine = Unfinished(path)
        assert _parts(tmp_path) == sorted([held, mine.name])
        mine.discard()
        assert _parts(tmp_path) == [held]
        other.send_signal(signal.SIGKILL)
        other.wait(20)
        assert _parts(tmp_path) == [held]
        next_one = Unfinished(str(tmp_path / "other.safetensors"))
        assert _parts(tmp_path) == [next_one.name]
        next_one.discard()
    assert _parts(tmp_path) == []


def test_two_of_one_process_do_not_clear_each_other(tmp_path: Path) -> None:
    one, other = (Unfinished(str(tmp_path / "x.safetensors")) for _ in range(2))
    assert _parts(tmp_path) == sorted([one.name, other.name])
    one.discard()
    one.discard()
    other.discard()


def test_other_files_are_never_touched(tmp_path: Path) -> None:
    names = [".lorakeet-1.part", "lorakeet-0123456789abcdef.part", ".lorakeet-0123456789abcdef.part.txt"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / ".lorakeet-0123456789abcdef.part").mkdir()
    Unfinished(str(tmp_path / "x.safetensors")).discard()
    assert sorted(os.listdir(tmp_path)) == sorted([*names, ".lorakeet-0123456789abcdef.part"])


def test_a_link_in_the_place_of_an_unfinished_file_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept", "utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".lorakeet-0123456789abcdef.part").symlink_to(tmp_path / "kept")
    Unfinished(str(tmp_path / "folder" / "x.safetensors")).discard()
    assert (tmp_path / "kept").read_text("utf-8") == "kept"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "none" / "x.safetensors")
    with pytest.raises(FileUnwritable, match="its folder does not exist") as refused:
        Unfinished(path)
    assert refused.value.where == path


def test_a_file_in_the_current_folder_needs_no_folder_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = Unfinished("x.safetensors")
    os.write(made.descriptor, b"x")
    made.publish(overwrite=False)
    assert (tmp_path / "x.safetensors").read_bytes() == b"x"
    assert os.listdir(tmp_path) == ["x.safetensors"]
