"""A training of the studio, watched and steered by commands."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.orchestrator.cli.command import LORAKEET, TIMEOUT_S, lorakeet
from tests.orchestrator.own_studio import Serving
from trainer.fixtures import write

pytestmark = pytest.mark.slow

_CONFIG = """
[source]
folders = ["datasets/cats"]
[model]
base = "small"
[data]
resolution = 64
buckets = { min_side = 64 }
[training]
steps = 5000
[checkpoints]
every_minutes = 0.0
"""


@contextmanager
def _followed() -> Iterator[Callable[[Callable[[Any], bool]], Any]]:
    """Gives what reads the events of the last job up to one that is asked for."""
    process = subprocess.Popen([*LORAKEET, "jobs", "follow", "last", "--json"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    lines = process.stdout

    def until(fits: Callable[[Any], bool]) -> Any:
        return next(event for line in lines if fits(event := json.loads(line)))

    try:
        yield until
    finally:
        process.kill()
        process.wait(TIMEOUT_S)
        lines.close()


def _is(state: str) -> Callable[[Any], bool]:
    return lambda event: event["event"] == "changed" and event["job"]["state"] == state


def _is_after(step: int) -> Callable[[Any], bool]:
    def fits(event: Any) -> bool:
        return bool(event["event"] == "metrics" and event["samples"][-1]["step"] > step)

    return fits


def _is_checkpoint(event: Any) -> bool:
    return bool(event["event"] == "artifact" and event["artifact"]["role"] == "checkpoint")


def test_a_training_is_queued_followed_saved_paused_resumed_and_ended(tmp_path: Path) -> None:
    home = Path(os.environ["LORAKEET_HOME"])
    (home / "datasets" / "cats").mkdir(parents=True)
    Image.new("RGB", (64, 64), "red").save(home / "datasets" / "cats" / "1.png")
    (home / "datasets" / "cats" / "1.txt").write_text("a cat", encoding="utf-8")
    (home / "models").mkdir()
    write("sd15", tmp_path, dtype="fp32").file.rename(home / "models" / "small.safetensors")
    (home / "cat.toml").write_text(_CONFIG, encoding="utf-8")
    with Serving(home):
        assert lorakeet("train", home / "cat.toml", "--queue").code == 0
        with _followed() as until:
            until(_is_after(2))
            assert lorakeet("jobs", "order", "last", "save_now").code == 0
            kept = until(_is_checkpoint)["artifact"]["labels"]["step"]
            assert lorakeet("jobs", "pause", "last").code == 0
            paused = until(_is_checkpoint)["artifact"]["labels"]["step"]
            until(_is("paused"))
            assert lorakeet("jobs", "order", "last", "save_now").code == 3
            assert lorakeet("jobs", "resume", "last").code == 0
            first = until(_is_after(0))["samples"][0]["step"]
            assert kept <= paused == first - 1
            assert lorakeet("jobs", "cancel", "--now", "last").code == 0
            until(_is("canceled"))
        job = lorakeet("jobs", "show", "last", "--json").of("job")[0]["job"]
        assert [each["labels"]["step"] for each in job["artifacts"] if each["role"] == "checkpoint"] == [
            kept, paused,
        ]  # fmt: skip
