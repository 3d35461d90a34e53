"""Logs: whole on the disk, read from their end."""

from pathlib import Path

import msgspec
import pytest

from contract.notifications import LogLevel
from orchestrator.jobs import logs
from orchestrator.jobs.logs import FILE, Line, LogFile, tail


def _line(number: int, level: LogLevel = "info", message: str = "words") -> Line:
    return Line(at="2026-11-20T00:00:00Z", level=level, logger="t", message=message, attempt=1, number=number)


def test_the_last_lines_of_a_level_come_in_order(tmp_path: Path) -> None:
    log = LogFile(tmp_path)
    for number in range(3_000):
        log.add(_line(number, "warning" if number % 100 == 0 else "info", f"äöü {'x' * 100}"))
    log.flush()
    assert [line.number for line in tail(tmp_path, 3, "debug")] == [2997, 2998, 2999]
    assert [line.number for line in tail(tmp_path, 2, "warning")] == [2800, 2900]
    assert len(tail(tmp_path, 10_000, "debug")) == 3_000
    assert tail(tmp_path, 10, "error") == []


def test_there_is_no_log_before_there_is_one(tmp_path: Path) -> None:
    assert tail(tmp_path / "nowhere", 10, "debug") == []


def test_half_a_line_of_a_dead_studio_costs_only_itself(tmp_path: Path) -> None:
    log = LogFile(tmp_path)
    log.add(_line(1))
    log.flush()
    with open(tmp_path / FILE, "ab") as file:
        file.write(b'{"at": "20')
    log = LogFile(tmp_path)
    log.add(_line(2))
    log.flush()
    assert [line.number for line in tail(tmp_path, 10, "debug")] == [1, 2]


def test_what_comes_fast_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_WAITING_BYTES", 1_000)
    log = LogFile(tmp_path)
    for number in range(100):
        log.add(_line(number))
    assert len((tmp_path / FILE).read_bytes().splitlines()) >= 90


def test_lines_that_a_full_disk_did_not_take_are_counted(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "not yet there")
    log.add(_line(1))
    log.add(_line(2))
    log.flush()
    (tmp_path / "not yet there").mkdir()
    log.add(_line(3))
    log.flush()
    (line,) = tail(tmp_path / "not yet there", 10, "debug")
    assert (line.number, line.dropped) == (3, 2)
    assert msgspec.json.decode((tmp_path / "not yet there" / FILE).read_bytes(), type=Line) == line
