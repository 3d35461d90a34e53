"""The transcript in docs/http-api.md, run as it stands there: real curl, studio, kernel and photographs."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.builders import adapters
from tests.orchestrator.cli.command import LORAKEET, TIMEOUT_S
from tests.orchestrator.cli.conftest import SHIPPED
from trainer.fixtures import write

PAGE = Path(__file__).parents[2] / "docs" / "http-api.md"
PORT = "7878"
#: Stands for whatever it is; in a command, for what was shown before.
ANYTHING = "…"
SERVE = "lorakeet serve"
#: What is in the LoRA of the transcript.
MODULE = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
METADATA = {"ss_base_model_version": "sd_v1"}
#: Said on a line of its own when a command has ended.
END = "--- that was all ---"


class Step(NamedTuple):
    """A command as it is typed, and what it is said to answer."""

    command: str
    expected: str


def steps(page: str) -> Iterator[Step]:
    """The commands of the page's console blocks, in their order."""
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        for text in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = text.splitlines()
            more = [line for line in lines[1:] if line.startswith("> ")]
            command = "\n".join([lines[0], *(line[2:] for line in more)])
            yield Step(command, "\n".join(lines[1 + len(more) :]))


def fits(expected: str, shown: str) -> bool:
    """Whether what was shown is what was expected, up to the ends of its lines."""
    pattern = ".*?".join(map(re.escape, expected.split(ANYTHING)))
    return re.fullmatch(pattern + (".*" if expected.endswith(ANYTHING) else ""), shown, re.DOTALL) is not None


def filled_in(command: str, seen: str) -> str:
    """A command with what `…` in it stands for: the rest of the last word that was shown and begins so."""

    def found(match: re.Match[str]) -> str:
        name, begun = match[1] or "", match[2]
        for kept, start in (("", name + begun), (name, begun)):
            if words := re.findall(re.escape(start) + r"[\w-]+", seen):
                return kept + str(words[-1])
        raise AssertionError(f"nothing that was shown begins with {begun}")

    return re.sub(rf"([\w?]+=)?([\w-]+){ANYTHING}", found, command)


class Shell:
    """A bash that keeps its variables from command to command, and the studio beside it."""

    def __init__(self, folder: Path, home: Path, port: int) -> None:
        # `~/lorakeet`, as it stands in the documentation.
        assert home.name == "lorakeet"
        self._home = home
        self._port = port
        self._studio: subprocess.Popen[str] | None = None
        self._seen = ""
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            env={**os.environ, "HOME": str(home.parent)},
        )

    def run(self, step: Step) -> str:
        """What a step shows."""
        command = filled_in(step.command, self._seen).replace(PORT, str(self._port))
        shown = self._serve(step) if command.startswith(SERVE) else self._typed(command)
        self._seen += shown
        return shown.replace(str(self._port), PORT).rstrip("\n")

    def close(self) -> None:
        """End both."""
        self._stop()
        self._bash.kill()
        self._bash.communicate(timeout=TIMEOUT_S)

    def _typed(self, command: str) -> str:
        assert self._bash.stdin is not None and self._bash.stdout is not None
        self._bash.stdin.write(f"{command}\necho; echo '{END}'\n")
        self._bash.stdin.flush()
        shown = ""
        while not shown.endswith(f"{END}\n"):
            line = self._bash.stdout.readline()
            assert line, f"bash ended: {shown}"
            shown += line
        return shown.removesuffix(f"{END}\n").rstrip("\n")

    def _serve(self, step: Step) -> str:
        self._stop()
        self._studio = subprocess.Popen(
            [*LORAKEET, *step.command.split()[1:], "--port", str(self._port), "--data", str(self._home)],
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        assert self._studio.stdout is not None
        return "".join(self._studio.stdout.readline() for _ in step.expected.splitlines())

    def _stop(self) -> None:
        """Ctrl+C."""
        if self._studio is not None:
            self._studio.send_signal(signal.SIGINT)
            self._studio.communicate(timeout=TIMEOUT_S)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
        return port


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    folder, home = tmp_path / "folder", tmp_path / "lorakeet"
    folder.mkdir()
    adapters.write(folder / "style.safetensors", adapters.lora(MODULE, (320, 320), 8), METADATA)
    shutil.copy(write("sd15", tmp_path / "models").file, folder / "sd15.safetensors")
    for name in ("astronaut.png", "rocket.jpg"):
        shutil.copy(SHIPPED / name, folder)
    opened = Shell(folder, home, free_port())
    yield opened
    opened.close()


@pytest.mark.skipif(sys.platform == "win32", reason="the transcript is for a POSIX shell")
@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="curl or bash is MISSING")
def test_the_transcript_in_the_documentation_is_true(shell: Shell) -> None:
    told = list(steps(PAGE.read_text(encoding="utf-8")))
    assert len(told) > 15
    for step in told:
        shown = shell.run(step)
        assert fits(step.expected, shown), f"$ {step.command}\n{shown}\n--- expected ---\n{step.expected}"


def test_what_is_shown_must_fit_to_its_last_character() -> None:
    assert fits('{"id":"ds_…","n":…}', '{"id":"ds_01ABC","n":3}')
    assert fits("a…", "a and\nmore") and fits("a\n…\nz", "a\nb\nc\nz") and fits("", "")
    assert not fits('{"id":"ds_…"}', '{"id":"job_1"}')
    assert not fits("a", "a b")


def test_a_placeholder_in_a_command_is_the_newest_of_its_kind() -> None:
    assert filled_in("X=ds_…", '{"id":"ds_1"} {"id":"ds_2"}') == "X=ds_2"
    assert filled_in("curl /login?code=lk_…", "/login?code=lk_a-b\n  lk_c") == "curl /login?code=lk_a-b"
    with pytest.raises(AssertionError, match="begins with job_"):
        filled_in("X=job_…", '{"id":"ds_1"}')
