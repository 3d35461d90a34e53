"""One process a data directory."""

import subprocess
import sys
from pathlib import Path

import pytest

from contract.errors import FileUnwritable, StoreLocked
from orchestrator.store.lock import lock

HOLD = """
import sys
from pathlib import Path
from orchestrator.store.lock import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_one_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StoreLocked), lock(tmp_path):
            pass
        holder.kill()
        holder.wait(timeout=10)
        with lock(tmp_path):
            pass


def test_the_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "a" / "b"
    with lock(home):
        assert home.is_dir()
        assert home.stat().st_mode & 0o077 == 0


def test_a_file_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file", encoding="utf-8")
    with pytest.raises(FileUnwritable, match="home"), lock(tmp_path / "home"):
        pass
