"""What people and programs see of a training, from what a kernel says."""

import io
import json
import re
from typing import Any

import msgspec
import pytest

from contract.methods.train import TrainMetrics
from contract.notifications import Artifact, Partial, Progress
from orchestrator.cli import training_shown
from orchestrator.cli.output import Output
from orchestrator.cli.training_shown import Part, TrainingShown, exponent, fitting, pace

_METRICS = {"loss": 0.08324, "loss_average": 0.0912, "lr_unet": 9.8e-5, "lr_te1": 1e-5, "epoch": 3.0}


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _progress(step: int, **more: Any) -> Progress:
    facts: dict[str, Any] = {"phase": "train", "total": 2000, "unit": "steps", "metrics": _METRICS}
    return Progress(job_id="j", step=step, **facts | {"rate": 2.1, "eta_s": 871.0} | more)


def _item() -> Partial:
    item = TrainMetrics(
        step=120, epoch=3, loss=0.08, loss_average=0.09, rates={"unet": 1e-4}, seconds=0.5, images_per_s=2,
        data_wait=0, memory=8_482_560_409,
    )  # fmt: skip
    return Partial(job_id="j", items=[msgspec.to_builtins(item)])


def _artifact(role: str, path: str, **labels: int) -> Artifact:
    return Artifact(
        job_id="j", role=role, path=path, bytes=1, sha256="0" * 64, media_type="image/png", labels=labels
    )


def _seen(*said: Any, terminal: bool = False, json: bool = False) -> str:
    stderr = _Terminal() if terminal else io.StringIO()
    stdout = io.TextIOWrapper(io.BytesIO())
    output = Output(json=json, stdout=stdout, stderr=stderr)
    shown = TrainingShown(output, 10)
    for each in said:
        shown.take("", each)
    output.end_progress()
    stdout.flush()
    return stdout.buffer.getvalue().decode() if json else stderr.getvalue()


def test_elsewhere_than_on_a_terminal_a_line_comes_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(training_shown, "monotonic", lambda: now)
    monkeypatch.setenv("COLUMNS", "200")
    first = _seen(_progress(0, phase="load"), _item(), *(_progress(step) for step in range(4)))
    assert first.splitlines() == [
        "Loading the model.",
        "Training.",
        "step 1/2000, epoch 3/10, loss 0.0832, average 0.0912, lr 9.8e-5, 2.10 it/s, ETA 14:31, 7.9 GiB",
    ]
    assert _seen(_progress(1), _progress(1999), _progress(2000)).count("step ") == 2

    def later(step: int) -> Progress:
        nonlocal now
        now += 20
        return _progress(step)

    # Taken as they come: the clock goes on with each.
    output = io.StringIO()
    shown = TrainingShown(Output(json=False, stderr=output), 10)
    for step in range(1, 8):
        shown.take("", later(step))
    assert [line.split("/")[0] for line in output.getvalue().splitlines()[1:]] == [
        "step 1", "step 3", "step 5", "step 7",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (130, "120/2000 epoch 3/10  loss 0.0832  average 0.0912  lr 9.8e-5  2.10 it/s  ETA 14:31  7.9 GiB"),
        (80, "120/2000 ep 3/10  loss 0.0832  lr 9.8e-5  2.10 it/s  ETA 14:31  7.9G"),
        (60, "120/2000 ep 3/10  loss 0.0832  2.10 it/s  ETA 14:31"),
        (40, "120/2000 loss 0.0832"),
    ],
)
def test_on_a_terminal_one_line_has_all_that_it_has_room_for(
    columns: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    seen = _seen(_item(), _progress(120), terminal=True)
    line = next(line for line in reversed(seen.splitlines()) if "120/2000" in line)
    assert words in _plain(line) and "…" not in line
    assert len(_plain(line)) <= columns


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")


def test_what_was_made_is_named_as_it_is_made() -> None:
    made = [
        _artifact("sample", "/r/samples/step-5-prompt-0.png", step=5, prompt_index=0),
        _artifact("lora_step", "/o/cat-000001.safetensors", step=5, epoch=1),
        _artifact("checkpoint", "/r/checkpoints/c/manifest.json", step=5),
        _artifact("lora", "/o/cat.safetensors", step=5),
    ]
    assert _seen(*made).splitlines() == [
        "step 5: sample 1, /r/samples/step-5-prompt-0.png",
        "step 5: cat-000001.safetensors",
        "step 5: a checkpoint to go on from",
    ]


def test_programs_get_all_of_it_as_events() -> None:
    lines = _seen(_progress(120), _item(), _artifact("sample", "/s.png", step=5, prompt_index=1), json=True)
    progress, metrics, artifact = map(json.loads, lines.splitlines())
    assert (progress["event"], progress["step"], progress["total"]) == ("progress", 120, 2000)
    assert progress["metrics"] == _METRICS
    assert (metrics["event"], metrics["metrics"]["memory"]) == ("metrics", 8_482_560_409)
    assert (artifact["event"], artifact["labels"]) == ("artifact", {"step": 5, "prompt_index": 1})


def test_what_is_least_wanted_gives_way_first() -> None:
    parts = [Part(1, "middle", "mid"), Part(0, "first"), Part(2, "last")]
    assert fitting(parts, 19) == ["middle", "first", "last"]
    assert fitting(parts, 18) == ["mid", "first", "last"]
    assert fitting(parts, 15) == ["mid", "first"]
    assert fitting(parts, 7) == ["first"]
    assert fitting(parts, 1) == []


def test_numbers_are_short() -> None:
    assert [exponent(each) for each in (1e-4, 9.84e-5, 1.0, 0.0)] == ["1e-4", "9.8e-5", "1e0", "0"]
    assert [pace(each) for each in (2.1, 0.25)] == ["2.10 it/s", "4.00 s/it"]
