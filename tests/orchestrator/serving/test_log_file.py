"""The studio's log: lines of JSON that find a request, without a secret, never a reason to fail."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from contract.errors import FileUnwritable
from orchestrator.keys.redaction import Redactor
from orchestrator.serving import log_file
from orchestrator.serving.log_file import FILE, logging_to

LOG = logging.getLogger("lorakeet.test")


def entries(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / FILE).read_text("utf-8").splitlines()]


def test_a_line_says_when_who_what_and_the_trace(tmp_path: Path) -> None:
    with logging_to(tmp_path, "boot_1", Redactor()):
        LOG.info("at %d", 1)
        try:
            raise ValueError("odd \udcff name")
        except ValueError:
            LOG.exception("request %s failed", "r1")
    first, second = entries(tmp_path)
    assert first["at"].endswith("Z")
    assert (first["level"], first["logger"], first["message"], first["boot_id"]) == (
        "info",
        "lorakeet.test",
        "at 1",
        "boot_1",
    )
    assert "trace" not in first
    assert second["message"] == "request r1 failed"
    assert "ValueError: odd \\udcff name" in second["trace"]


def test_secrets_are_taken_out_of_words_and_traces(tmp_path: Path) -> None:
    token, key = "lk_0123456789abcdefghij", "hf_abcdefghijkl"
    with logging_to(tmp_path, "boot_1", Redactor([key])):
        LOG.warning("given %s and %s", token, key)
        try:
            raise ValueError(f"{token} {key}")
        except ValueError:
            LOG.exception("oh")
    text = (tmp_path / FILE).read_text("utf-8")
    assert token not in text and key not in text
    assert "lk_***" in text


def test_the_log_stays_small_and_its_older_parts_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "MAX_BYTES", 1_000)
    with logging_to(tmp_path, "boot_1", Redactor()):
        for number in range(200):
            LOG.info("line %d", number)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {FILE, *(f"{FILE}.{number}" for number in range(1, log_file.KEPT + 1))}
    assert all(path.stat().st_size <= 1_200 for path in tmp_path.iterdir())
    assert entries(tmp_path)[-1]["message"] == "line 199"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_loses_lines_and_nothing_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / FILE).symlink_to("/dev/full")
    with logging_to(tmp_path, "boot_1", Redactor()):
        LOG.error("lost")
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX folders")
def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileUnwritable, match="missing"), logging_to(tmp_path / "missing", "b", Redactor()):
        pass
