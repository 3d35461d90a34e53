"""The host in Node: it shares no code with us and must come to the same."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.golden import files
from tests.golden.replay import names
from tests.kernel_process import COMMAND

HOST = ROOT / "tests" / "hosts" / "node" / "host.mjs"
NODE = shutil.which("node")
#: Seconds for all transcripts, one kernel after the other.
LIMIT_S = 55

needs_node = pytest.mark.skipif(NODE is None, reason="there is no `node` on the PATH")


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return files.build(tmp_path_factory.mktemp("node"))


def _run(*arguments: str, kernel: tuple[str, ...] = COMMAND) -> subprocess.CompletedProcess[str]:
    """Run the host to its end; whatever happens, nothing of it stays behind."""
    assert NODE is not None
    command = [NODE, str(HOST), *arguments, "--", *kernel]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=LIMIT_S)
        finally:
            if process.poll() is None:
                _kill(process)
    return subprocess.CompletedProcess(command, process.returncode, output)


def _kill(process: subprocess.Popen[str]) -> None:
    """The host and its group; its kernel sees that its parent is gone, and leaves."""
    if sys.platform == "win32":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)


def _slow(name: str) -> bool:
    return name.startswith("train")


@needs_node
@pytest.mark.parametrize(
    "is_slow",
    # tests/golden replays those of `train` in every run.
    [pytest.param(False, id="quick"), pytest.param(True, id="train", marks=pytest.mark.slow)],
)
def test_a_host_in_another_language_replays_every_transcript(
    variables: dict[str, str], tmp_path: Path, is_slow: bool
) -> None:
    (tmp_path / "files.json").write_text(json.dumps(variables), encoding="utf-8")
    wanted = [name for name in names() if _slow(name) == is_slow]
    asked = [word for name in wanted for word in ("--scenario", name)]
    done = _run("--files", str(tmp_path / "files.json"), *asked)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines() == [
        "ok the kernel prints the committed contract",
        *(f"ok transcript {name}" for name in wanted),
    ]


@needs_node
def test_a_host_in_another_language_tags_a_photograph(variables: dict[str, str]) -> None:
    done = _run("--image", f"{variables['images']}/astronaut.png", "--model", variables["demo"])
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "ok caption: red, bright above, square image, high contrast"


@needs_node
def test_the_other_host_sees_what_is_wrong(variables: dict[str, str], tmp_path: Path) -> None:
    """A kernel that says something else, and one that is not there at all."""
    wrong = variables | {"images": variables["outside"]}
    (tmp_path / "files.json").write_text(json.dumps(wrong), encoding="utf-8")
    done = _run("--files", str(tmp_path / "files.json"), "--scenario", "tag_v2")
    assert done.returncode == 1
    assert "FAILED transcript tag_v2" in done.stdout
    assert _run(kernel=("no-such-kernel",)).returncode == 1
