"""kill -9 of the studio and its kernels, in every order, while jobs run: nothing is left that runs, and the
next studio finishes what this one began."""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults import truth
from tests.faults.following import Following
from tests.faults.homes import Prepared, captions, ended, tag
from tests.faults.moments import await_moment, captions_told
from tests.faults.repetition import numbers
from tests.faults.report import Report, Trial
from tests.faults.trial_studio import Trace, kernels_of, studio_of
from tests.studio_process import StudioProcess, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no kill -9 there")

#: Seconds for which a kernel lives with these jobs, about.
LIFE_S = 1.6
IMAGES = 160
#: Seconds after which nothing of an older studio may seem to run.
SETTLED_S = 5.0

Killing = Callable[[StudioProcess, Trace, float], None]


def _kernel_first(studio: StudioProcess, trace: Trace, pause_s: float) -> None:
    _kill(kernels_of(studio))
    time.sleep(pause_s)
    studio.kill()


def _studio_first(studio: StudioProcess, trace: Trace, pause_s: float) -> None:
    kernels = kernels_of(studio)
    studio.kill()
    time.sleep(pause_s)
    _kill(kernels)


def _studio_alone(studio: StudioProcess, trace: Trace, pause_s: float) -> None:
    """What it has started has to notice by itself."""
    studio.kill()


def _group(studio: StudioProcess, trace: Trace, pause_s: float) -> None:
    """As a terminal that is closed by force."""
    studio.signal_group(signal.SIGKILL)
    studio.wait()


def _everything(studio: StudioProcess, trace: Trace, pause_s: float) -> None:
    """As the machine itself, but for its disk."""
    trace.kill_all()
    studio.wait()


KILLINGS: list[Killing] = [_kernel_first, _studio_first, _studio_alone, _group, _everything]


@numbers(few=1, many=20)
def test_the_next_studio_finishes_what_was_killed(
    number: int, many: Prepared, trace: Trace, report: Report, tmp_path: Path
) -> None:
    home, dataset = many.copy(tmp_path), many.datasets["photographs"]
    # Each way comes equally often.
    killing = KILLINGS[number % len(KILLINGS)]
    with report.trial("K4", number) as trial:
        with studio_of(home, trace) as studio, studio.client() as client:
            jobs = _start(client, home, dataset)
            following = Following(f"job:{jobs[0]}")
            following.begin(studio)
            until(lambda: kernels_of(studio))
            pause_s = trial.chance.choice((0.0, 0.05, 0.5))
            trial.note(killing=killing.__name__, pause_s=pause_s)
            await_moment(following, trial, LIFE_S, IMAGES)
            seen = captions_told(following)
            killing(studio, trace, pause_s)
        trial.count("kills")
        trial.count("captions before the kill", len(seen))
        if trial.chance.random() < 0.5:
            # Otherwise the next studio comes while they may still be there.
            trace.assert_nothing_left()
        with studio_of(home, trace) as studio, studio.client() as client:
            until(lambda: not truth.alive_of_older_boots(home, studio.ready["boot_id"]), SETTLED_S)
            for job_id in jobs:
                job = ended(client, job_id)
                assert job["state"] == "succeeded", job
                _count(job, trial)
            after = captions(client, dataset)
        assert seen.items() <= after.items()
        assert len(after) == IMAGES
        trace.assert_nothing_left()
        assert trace.overlaps() == ""
        truth.assert_databases_whole(home)
        truth.assert_journal_whole(home)
        truth.assert_one_row_an_image(home, jobs[0])
        truth.assert_files_say_the_same(home, dataset)


def _start(client: httpx.Client, home: Path, dataset: str) -> list[str]:
    """A job for a kernel, and one for workers."""
    thumbnails = client.post("/jobs", json={"kind": "thumbnails", "source": {"dataset": dataset}})
    return [tag(client, home, dataset, settings={"batch_size": 1}), thumbnails.json()["id"]]


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _count(job: dict[str, Any], trial: Trial) -> None:
    reasons = [each["reason"] for each in job["transitions"]]
    trial.count("jobs")
    trial.count("jobs interrupted", int("studio_died" in reasons or "kernel_died" in reasons))
