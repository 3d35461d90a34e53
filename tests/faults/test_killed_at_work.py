"""kill -9 of a studio, its kernel or both, at any moment of a training: the LoRA is the same to the byte."""

import os
import shutil
import signal
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import pytest
from PIL import Image

from tests.faults import truth
from tests.faults.homes import ended
from tests.faults.repetition import numbers
from tests.faults.report import Report
from tests.faults.trial_studio import Trace, kernels_of, studio_of, traced
from tests.studio_process import StudioProcess, until
from trainer.fixtures import write

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="no kill -9 there"),
    # Each trial starts torch twice, in processes of their own.
    pytest.mark.timeout(180),
]

STEPS: Final = 14
SETTINGS: Final[dict[str, Any]] = {
    "model": {"base": "small"},
    "network": {"rank": 2, "dropout": 0.1},
    "data": {"resolution": 64, "buckets": {"min_side": 64}, "captions": {"shuffle": True}},
    "training": {"steps": STEPS, "accumulation": 2},
    "checkpoints": {"every_steps": 4},
    "saving": {"every_epochs": 0},
}


class Expected(NamedTuple):
    """A data directory in which nothing was trained yet, and what a training there comes to."""

    home: Path
    tensors: bytes
    losses: list[float]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Expected:
    home = tmp_path_factory.mktemp("untrained") / "home"
    folder = home / "datasets" / "2_cup"
    folder.mkdir(parents=True)
    for number, colour in enumerate(("brown", "navy", "olive")):
        Image.new("RGB", (96, 80), colour).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a, {colour}, cup", encoding="utf-8")
    model = home / "models" / "small.safetensors"
    model.parent.mkdir()
    shutil.move(write("sd15", tmp_path_factory.mktemp("small")).file, model)
    undisturbed = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(home, undisturbed / "home")
    with traced(undisturbed) as trace, studio_of(undisturbed / "home", trace) as studio:
        with studio.client() as client:
            job_id = _started(client)
            job = ended(client, job_id, 40)
            assert job["state"] == "succeeded", job["error"]
            return Expected(home, _tensors(undisturbed / "home"), _losses(client, job_id))


@numbers(few=1, many=20)
def test_a_training_that_is_killed_with_its_studio_or_kernel_loses_nothing(
    number: int, expected: Expected, trace: Trace, report: Report, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(expected.home, home)
    with report.trial("K2", number) as trial:
        victim = trial.chance.choice(list(_KILLS))
        step = trial.chance.randrange(STEPS)
        trial.note(victim=victim, step=step)
        with studio_of(home, trace) as studio, studio.client() as client:
            job_id = _started(client)
            until(lambda: step <= _step(client, job_id), 40)
            _KILLS[victim](studio, trace)
            trial.count(f"kills of the {victim}")
            if victim == "kernel":
                _assert_as_expected(client, home, job_id, expected)
        if victim != "kernel":
            with studio_of(home, trace) as studio, studio.client() as client:
                _assert_as_expected(client, home, job_id, expected)
        trace.assert_nothing_left()
        assert trace.overlaps() == ""
        truth.assert_databases_whole(home)


def _kill_kernel(studio: StudioProcess, trace: Trace) -> None:
    for pid in kernels_of(studio):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _kill_studio(studio: StudioProcess, trace: Trace) -> None:
    studio.kill()


def _kill_both(studio: StudioProcess, trace: Trace) -> None:
    trace.kill_all()
    studio.wait()


_KILLS: Final[dict[str, Callable[[StudioProcess, Trace], None]]] = {
    "kernel": _kill_kernel,
    "studio": _kill_studio,
    "whole": _kill_both,
}


def _started(client: httpx.Client) -> str:
    source = {"folders": [{"root": "datasets", "path": "2_cup"}]}
    answer = client.post("/jobs", json={"kind": "train", "settings": SETTINGS, "source": source})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def _step(client: httpx.Client, job_id: str) -> int:
    """The step that the training has come to; -1 before its first phase of steps."""
    job = client.get(f"/jobs/{job_id}").json()
    if job["finished_at"]:
        return STEPS
    progress = job["progress"]
    return progress["step"] if progress and progress["phase"] == "train" else -1


def _assert_as_expected(client: httpx.Client, home: Path, job_id: str, expected: Expected) -> None:
    job = ended(client, job_id, 40)
    assert job["state"] == "succeeded", job["error"]
    assert job["attempt"] <= 2
    assert _tensors(home) == expected.tensors
    assert _losses(client, job_id) == expected.losses


def _losses(client: httpx.Client, job_id: str) -> list[float]:
    (series,) = client.get(f"/jobs/{job_id}/metrics", params={"keys": "loss"}).json()["series"]
    assert series["steps"] == list(range(1, STEPS + 1))
    values: list[float] = series["values"]
    return values


def _tensors(home: Path) -> bytes:
    """The bytes of the LoRA after its header, which has moments of time in it."""
    raw = (home / "outputs" / "cup.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return raw[8 + length :]
