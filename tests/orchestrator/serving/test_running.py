"""`studio.json`, and what is made of one that nobody took away."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from orchestrator.serving.running import FILE, TOKEN_FILE, Running, announced, find_running


def announce(home: Path) -> Running:
    with announced(home, "http://127.0.0.1:1", "boot_1", "0.1.0", "lk_secret") as running:
        found = find_running(home)
        assert found == running
        assert found.token() == "lk_secret"
    return running


def test_a_studio_is_found_for_as_long_as_it_runs(tmp_path: Path) -> None:
    running = announce(tmp_path)
    assert find_running(tmp_path) is None
    assert running.token() is None
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_only_its_user_can_read_it(tmp_path: Path) -> None:
    with announced(tmp_path, "http://127.0.0.1:1", "boot_1", "0.1.0", "lk_secret"):
        assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in (FILE, TOKEN_FILE)} == {0o600}


@pytest.mark.skipif(sys.platform == "win32", reason="there only the studio's answer tells")
def test_a_studio_whose_process_is_gone_is_not_found(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(60)
    for pid in (ended.pid, 0, -1, 2**80):
        text = msgspec.json.encode(
            {"url": "x", "pid": pid, "boot_id": "b", "version": "v", "token_file": "t"}
        )
        (tmp_path / FILE).write_bytes(text)
        assert find_running(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"pid": "x"}', b"\xff"])
def test_a_file_that_says_nothing_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert find_running(tmp_path) is None
