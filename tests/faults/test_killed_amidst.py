"""kill -9 at any moment of a first start, and of a backup: both are begun again as if nothing had been."""

import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.faults import truth
from tests.faults.homes import Prepared, captions
from tests.faults.repetition import numbers
from tests.faults.report import Report
from tests.faults.trial_studio import Trace, studio_of
from tests.studio_process import COMMAND, StudioProcess

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no kill -9 there")

#: Seconds that a first start takes, and a backup, about.
START_S, BACKUP_S = 1.0, 0.5


@numbers(few=1, many=15)
def test_a_first_start_that_was_killed_is_begun_again(
    number: int, trace: Trace, report: Report, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    with report.trial("K6 first start", number) as trial:
        with StudioProcess(home, env=trace.environment(), wait=False) as studio:
            time.sleep(trial.chance.uniform(0, START_S))
            studio.kill()
        with studio_of(home, trace) as studio, studio.client() as client:
            assert httpx.get(studio.ready["link"], follow_redirects=False).status_code < 400
            made = client.post("/presets", json={"kind": "tag", "name": "p", "settings": {}})
            assert made.status_code == 201, made.text
        truth.assert_databases_whole(home)
        trace.assert_nothing_left()


@numbers(few=1, many=8)
def test_a_backup_is_whole_or_not_there(number: int, few: Prepared, report: Report, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    command = [*COMMAND, "--data", str(few.home), "backup", str(target)]
    with report.trial("K6 backup", number) as trial:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            time.sleep(trial.chance.uniform(0, BACKUP_S))
            process.kill()
        if target.exists():
            trial.count("there")
        else:
            assert subprocess.run(command, stdout=subprocess.DEVNULL, timeout=20, check=False).returncode == 0
        restored = tmp_path / "home"
        shutil.copytree(few.home, restored)
        shutil.copyfile(target, restored / "control.db")
        with closing(sqlite3.connect(target)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        with StudioProcess(restored) as studio, studio.client() as client:
            assert captions(client, few.datasets["jobs"]) != {}
