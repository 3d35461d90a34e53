"""kill -9 of a studio's kernel, at any moment of a tagging job: nothing is lost, and the job goes on."""

import os
import signal
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.faults import truth
from tests.faults.following import Following
from tests.faults.homes import Prepared, captions, ended, tag
from tests.faults.moments import await_moment, captions_told, items
from tests.faults.repetition import numbers
from tests.faults.report import Report, Trial
from tests.faults.trial_studio import Trace, kernels_of, studio_of, traced
from tests.studio_process import StudioProcess, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no kill -9 there")

#: Seconds within which a job whose kernel is dead says so.
NOTICED_S = 5.0
IMAGES = 160


class Expected(NamedTuple):
    """What tagging comes to when nothing happens, and the seconds that a kernel lives for it."""

    captions: dict[str, str]
    life_s: float


@pytest.fixture(scope="module")
def expected(many: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Expected:
    folder, dataset = tmp_path_factory.mktemp("undisturbed"), many.datasets["photographs"]
    home = many.copy(folder)
    with traced(folder) as trace, studio_of(home, trace) as studio, studio.client() as client:
        job_id = tag(client, home, dataset)
        until(lambda: kernels_of(studio))
        started = time.monotonic()
        assert ended(client, job_id)["state"] == "succeeded"
        life_s = time.monotonic() - started
        found = captions(client, dataset)
    assert len(found) == IMAGES
    return Expected(found, life_s)


@numbers(few=2, many=60)
def test_a_killed_kernel_costs_no_caption(
    number: int, many: Prepared, expected: Expected, trace: Trace, report: Report, tmp_path: Path
) -> None:
    home, dataset = many.copy(tmp_path), many.datasets["photographs"]
    with report.trial("K1", number) as trial:
        with studio_of(home, trace) as studio, studio.client() as client:
            job_id = tag(client, home, dataset, settings={"batch_size": trial.chance.choice((1, 2))})
            following = Following(f"job:{job_id}")
            following.begin(studio)
            killed = _kill_in_the_middle(studio, following, trial, expected.life_s)
            seen = captions_told(following)
            trial.count("captions before the kill", len(seen))
            _noticed(client, job_id, killed, trial)
            assert ended(client, job_id)["state"] == "succeeded"
            after = captions(client, dataset)
            assert seen.items() <= after.items()
            assert after == expected.captions
            until(lambda: len(items(following)) >= len(after), 5)
        paths = [item["path"] for item in items(following)]
        assert sorted(paths) == sorted(after), "an image that was told twice, or never"
        trace.assert_nothing_left()
        assert trace.overlaps() == ""
        _assert_kept(home, dataset, job_id)


def _kill_in_the_middle(studio: StudioProcess, following: Following, trial: Trial, life_s: float) -> float:
    """Kill the kernel somewhere in its job; the time of that."""
    (pid,) = until(lambda: kernels_of(studio))
    await_moment(following, trial, life_s, IMAGES)
    killed = time.time()
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    trial.count("kills")
    return killed


def _noticed(client: httpx.Client, job_id: str, killed: float, trial: Trial) -> None:
    """Within some seconds the job says that its kernel died; unless it had ended before."""

    def look() -> str | None:
        job = client.get(f"/jobs/{job_id}").json()
        for each in job["transitions"]:
            if each["reason"] in ("kernel_died", "kernel_unavailable"):
                assert datetime.fromisoformat(each["at"]).timestamp() <= killed + NOTICED_S
                return "retried"
        return "done before" if job["state"] == "succeeded" else None

    found: str = until(look, NOTICED_S)
    trial.count(found)


def _assert_kept(home: Path, dataset: str, job_id: str) -> None:
    truth.assert_databases_whole(home)
    truth.assert_journal_whole(home)
    truth.assert_one_row_an_image(home, job_id)
    truth.assert_files_say_the_same(home, dataset)
