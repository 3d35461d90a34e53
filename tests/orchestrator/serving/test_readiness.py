"""Whether the studio can do its work, and why not."""

import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.serving import readiness
from orchestrator.serving.readiness import Readiness
from orchestrator.store.control import open_control

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def own_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORAKEET_KERNEL", sys.executable)


async def test_a_studio_that_can_do_its_work_has_no_reasons(tmp_path: Path) -> None:
    async with open_control(tmp_path) as control:
        assert await Readiness(tmp_path, control).reasons() == ()


async def test_every_reason_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORAKEET_KERNEL", "no-such-program")
    (tmp_path / "settings.toml").write_text("[limits]\nmin_free_bytes = 1_000_000_000_000_000\n", "utf-8")
    async with open_control(tmp_path) as control:
        program, disk = await Readiness(tmp_path, control).reasons()
    assert "no-such-program" in program
    assert "bytes left" in disk


async def test_a_database_that_takes_no_writes_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "_PATIENCE_S", 0.05)
    async with open_control(tmp_path) as control:
        with closing(sqlite3.connect(control.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await Readiness(tmp_path, control).reasons() == ("The database does not answer.",)
            other.execute("ROLLBACK")


async def test_settings_that_cannot_be_read_are_a_reason(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("x = 1\n", "utf-8")
    async with open_control(tmp_path) as control:
        (reason,) = await Readiness(tmp_path, control).reasons()
    assert "settings.toml" in reason


async def test_an_answer_is_good_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_control(tmp_path) as control:
        ready = Readiness(tmp_path, control)
        assert await ready.reasons() == ()
        monkeypatch.setenv("LORAKEET_KERNEL", "no-such-program")
        assert await ready.reasons() == ()
        monkeypatch.setattr(time, "monotonic", lambda: float("inf"))
        assert len(await ready.reasons()) == 1
