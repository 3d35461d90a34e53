"""What surgery has come to, in words."""

from typing import Any

import pytest

from contract.methods.merge import MergedModule, MergeOutcome
from contract.methods.resize import ResizedModule, ResizeOutcome
from contract.methods.train import SavedFile, TrainOutcome
from orchestrator.cli import jobs
from orchestrator.cli.outcomes import merged, resized, trained, words_of

_FILE: dict[str, Any] = {"file": "/a/c.safetensors", "bytes": 2048, "sha256": "0" * 64}


def _resized(**more: Any) -> ResizeOutcome:
    modules = [
        ResizedModule(name="m", old_rank=16, new_rank=rank, sum_retained=1, fro_retained=1, error=0)
        for rank in (4, 8, 8)
    ]
    facts: dict[str, Any] = {"modules": modules, "fro_retained": 0.9876, "error": 0.157, "value": 0.9}
    return ResizeOutcome(**(facts | _FILE | more))


def _merged(**more: Any) -> MergeOutcome:
    facts: dict[str, Any] = {"inputs": [], "merged": 3, "kept": 0}
    return MergeOutcome(**(facts | {"modules": [MergedModule(name="m", rank=8, error=0)]} | _FILE | more))


def test_a_resize_says_what_is_kept() -> None:
    assert list(resized(_resized(timings={"wall_s": 1.25}), 4096)) == [
        "c.safetensors: 3 modules, rank 16 → 4 … 8, mostly 8",
        "  value 0.9",
        "  kept 98.76% of the norm, error 15.7%",
        "  4.0 KiB → 2.0 KiB, 1.2 s",
    ]


def test_a_resize_of_nothing_says_so() -> None:
    said = list(resized(_resized(modules=[], value=None, unchanged=["a", "b", "c", "d"])))
    assert said == [
        "c.safetensors: no module has another rank than before",
        "  4 kept as they were: a, b, c …",
        "  2.0 KiB",
    ]


@pytest.mark.parametrize(
    ("error", "words"),
    [(0.0, "error 0%"), (0.633, "error 63.3%"), (1e-4, "error 0.01%"), (3.14e-7, "error 3.1e-07"),
     (1.87, "error 187%"), (123.0, "error 1.2e+02"), (None, "exact")],
)  # fmt: skip
def test_an_error_is_told_in_percent_where_that_is_readable(error: float | None, words: str) -> None:
    assert list(merged(_merged(error=error)))[1] == f"  1 module of rank 8, {words}"


def test_a_training_says_how_long_it_was_and_what_it_left() -> None:
    saved = [
        SavedFile(file=f"/a/c-00000{n}.safetensors", bytes=1, sha256="0" * 64, step=n) for n in (1, 2, 3, 4)
    ]
    whole = TrainOutcome(
        **_FILE, steps=1200, epochs=3, loss=0.08124, saved=saved, failed_count=1, timings={"wall_s": 3725.4}
    )
    assert list(trained(whole)) == [
        "c.safetensors: 1,200 steps, 3 epochs, loss 0.0812",
        "  on the way: c-000001.safetensors, c-000002.safetensors, c-000003.safetensors …",
        "  1 picture left out",
        "  2.0 KiB, 1:02:05",
    ]
    early = TrainOutcome(**_FILE, steps=1, epochs=1, stopped_early=True, timings={"wall_s": 61.04})
    assert list(trained(early)) == [
        "c.safetensors: 1 step, 1 epoch, stopped early as it was told", "  2.0 KiB, 61.0 s",
    ]  # fmt: skip
    canceled = TrainOutcome(steps=7, epochs=0)
    assert list(trained(canceled)) == ["no file yet: 7 steps, 0 epochs"]


def test_what_the_studio_has_kept_is_told_with_its_warnings() -> None:
    kept = {**_FILE, "added": ["a"], "changed": [], "removed": [], "warnings": ["Beware."]}
    assert list(words_of("metadata", kept)) == ["warning: Beware.", "c.safetensors: 1 new", "  new: a"]
    assert list(words_of("tag", {"tagged": 3})) == []
    assert list(words_of("resize", {"of": "another version"})) == []


def test_a_job_is_shown_with_what_was_set_and_what_it_came_to() -> None:
    settings: dict[str, Any] = {
        "type": "loras",
        "loras": [{"weight": 0.5}],
        "rank": None,
        "blocks": {},
        "convert": False,
    }
    kept = {**_FILE, "inputs": [{"file": "a"}], "merged": 1, "kept": 2}
    job = {
        "name": "c", "kind": "merge", "id": "job_1", "state": "succeeded", "reason": "finished", "attempt": 1,
        "lane": "cpu", "error": None, "created_at": None, "started_at": None, "finished_at": None,
        "settings": settings, "transitions": [], "artifacts": [], "outcome": kept,
    }  # fmt: skip
    assert list(jobs._description(job)) == [
        "c (merge, job_1)",
        "  succeeded",
        "  type = loras",
        '  loras = [{"weight":0.5}]',
        "  convert = false",
        "  c.safetensors: from 1 file",
        "    1 tensor merged, 2 as they were",
        "    2.0 KiB",
    ]
