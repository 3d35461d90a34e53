"""Kernels that break their contract in every way, at every moment: found out in bounded time and memory."""

import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from tests.faults.homes import Prepared, ended, tag
from tests.faults.report import Report, Trial
from tests.faults.scripted_kernel import FAULTS
from tests.faults.trial_studio import HURRIED, Trace, scripted, studio_of
from tests.studio_process import StudioProcess

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

MOMENTS: Final = ("initialize", "roots/set", "tag", "ping")
#: Those that are tried in every run; the suite tries all.
ALWAYS: Final = {
    ("says nothing", "tag"),
    ("is stopped", "tag"),
    ("floods stdout with lines", "tag"),
    ("says what is no JSON", "initialize"),
    ("answers twice", "tag"),
}
#: Whoever breaks the contract would do so again: the job fails, unless the kernel had not even begun.
BREACHES: Final = {"floods stdout with one line", "answers in another shape", "answers neither way"}
#: Bytes by which a flood of a hundred million may make the studio larger.
GROWTH: Final = 64 << 20
#: Seconds until a job whose kernel has one fault has ended: the hurried patience several times over.
ENDED_S: Final = 20


def _cases() -> list[Any]:
    every = [(fault, when) for fault in FAULTS for when in MOMENTS]
    return [pytest.param(*case, marks=() if case in ALWAYS else pytest.mark.faults) for case in every]


@pytest.mark.parametrize("fault, when", _cases())
def test_a_kernel_with_a_fault_harms_one_attempt_at_most(
    fault: str, when: str, few: Prepared, trace: Trace, report: Report, tmp_path: Path
) -> None:
    home, dataset = few.copy(tmp_path), few.datasets["jobs"]
    _script(trace, fault, when, times=1)
    with report.trial("K7", list(FAULTS).index(fault) * len(MOMENTS) + MOMENTS.index(when)) as trial:
        trial.note(fault=fault, when=when)
        with studio_of(home, trace, kernel=scripted(trace), command=HURRIED) as studio:
            before = _memory(studio)
            with studio.client() as client:
                started = time.monotonic()
                job = ended(client, tag(client, home, dataset), ENDED_S)
                trial.note(states=[f"{each['after']}/{each['reason']}" for each in job["transitions"]])
                _count(job, trial, time.monotonic() - started)
                assert (trace.folder / "fault-0").exists(), "it has not happened"
                if fault in BREACHES and when != "initialize":
                    assert (job["state"], job["error"]["code"]) == ("failed", "kernel_fault")
                else:
                    assert job["state"] == "succeeded", job["error"]
                after = ended(client, tag(client, home, dataset, existing="overwrite"), ENDED_S)
                assert after["state"] == "succeeded", after["error"]
                # A kernel may have done its work although it hears nothing any more.
                assert len(after["attempts"]) <= 2
            assert _memory(studio) - before < GROWTH
            assert "Traceback" not in studio.stderr
        trace.assert_nothing_left()


def _script(trace: Trace, fault: str, when: str, times: int) -> None:
    script = {"fault": fault, "when": when, "times": times, "picture_s": 0.15 if when == "ping" else 0.0}
    (trace.folder / "script").write_text(json.dumps(script), "utf-8")


def _memory(studio: StudioProcess) -> int:
    """The most that it ever had, in bytes."""
    status = Path(f"/proc/{studio.pid}/status")
    if not status.exists():
        return int(psutil.Process(studio.pid).memory_info().rss)
    line = next(line for line in status.read_text("ascii").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def _count(job: dict[str, Any], trial: Trial, seconds: float) -> None:
    trial.count("unharmed" if len(job["attempts"]) == 1 else "tried again")
    trial.note(seconds=round(seconds, 2))
