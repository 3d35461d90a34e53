"""What a killed run has left of its checkpoints goes when it is taken up, though nothing else was missing."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.trainer.run import runs
from trainer.checkpoints.folder import CheckpointFolder


def test_what_was_going_when_a_run_was_killed_goes_when_it_is_taken_up(
    bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    asked = runs.request(bases["sd15"], source, tmp_path, checkpoints={"every_steps": 1, "keep_last": 1})
    runs.go(asked)
    folder = CheckpointFolder(str(tmp_path / "run/checkpoints"))
    (last,) = folder.names()
    # Killed at the end, before the old one went, or amidst of that.
    shutil.copytree(Path(folder.path, last), Path(folder.path, "00001-step-00000001"))
    shutil.copytree(Path(folder.path, last), Path(folder.path, ".checkpoint-0123456789abcdef.part"))
    runs.go(asked)
    assert os.listdir(folder.path) == [last]
