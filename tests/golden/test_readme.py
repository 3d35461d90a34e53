"""The session in README.md is a real one."""

import json
import re
import shutil
from pathlib import Path

from tests.conftest import ROOT
from tests.golden.replay import replay
from tests.golden.transcript import Step
from tests.kernel_process import KernelProcess


def _session() -> list[tuple[str, str]]:
    """Direction and text of every line of the session in README.md."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```\n(> .*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(line[0], line[2:]) for line in block.splitlines()]


def test_the_session_in_the_readme_is_what_a_kernel_says(tmp_path: Path, variables: dict[str, str]) -> None:
    photos, taggers = tmp_path / "photos", tmp_path / "taggers"
    shutil.copytree(variables["images"], photos, symlinks=True)
    shutil.copytree(variables["demo"], taggers / "demo")
    here = [
        (direction, text.replace('"/photos', f'"{photos}').replace('"/taggers', f'"{taggers}'))
        for direction, text in _session()
    ]
    steps = [Step(direction, json.loads(text)) for direction, text in here]
    with KernelProcess() as kernel:
        assert replay([*steps, Step("exit", 0)], kernel, variables, exact=False) == []


def test_the_session_is_short_enough_to_be_read() -> None:
    assert len(_session()) <= 12
