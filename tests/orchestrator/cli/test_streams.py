"""Where words go: any encoding, readers that leave, streams that were never open."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.orchestrator.cli.command import LORAKEET, TIMEOUT_S, lorakeet

#: As a terminal or a pipe on a Western Windows.
_CP1252 = {"PYTHONIOENCODING": "cp1252:strict"}
posix = pytest.mark.skipif(sys.platform == "win32", reason="redirections of a POSIX shell")


@pytest.fixture
def japanese(photographs: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "写真"
    folder.mkdir()
    shutil.copy(photographs / "rocket.jpg", folder / "日本.jpg")
    return folder


def test_events_are_utf_8_whatever_the_encoding_of_stdout(japanese: Path, demo_tagger: Path) -> None:
    done = lorakeet("tag", japanese, "--model", demo_tagger, "--json", env=_CP1252)
    assert done.code == 0, done.stderr
    assert [Path(event["image"]).name for event in done.of("tagged")] == ["日本.jpg"]
    assert "日本.jpg" in done.stdout and "\r" not in done.stdout


def test_words_that_an_encoding_lacks_are_escaped(japanese: Path, demo_tagger: Path) -> None:
    (japanese / "日本.jpg").write_bytes(b"")
    done = lorakeet("tag", japanese, "--model", demo_tagger, env=_CP1252)
    assert done.code == 4
    assert "failed: " in done.stderr and "\\u65e5\\u672c.jpg" in done.stderr
    assert "Traceback" not in done.stderr


def test_results_that_an_encoding_lacks_are_escaped() -> None:
    code = "from orchestrator.cli import streams; streams.prepare(); import sys; sys.stdout.write('日本')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        timeout=TIMEOUT_S,
        check=True,
        env=os.environ | _CP1252,
    )
    assert done.stdout == b"\\u65e5\\u672c"


def test_a_reader_that_leaves_ends_the_command_quietly(photographs: Path, demo_tagger: Path) -> None:
    command = [*LORAKEET, "tag", str(photographs), "--model", str(demo_tagger), "--batch-size", "1", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["event"] == "started"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(TIMEOUT_S) == 141
    captions = list(photographs.glob("*.txt"))
    assert all(path.read_text(encoding="utf-8").endswith("\n") for path in captions)
    assert not [path for path in photographs.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("arguments", [("serve",), ("--json", "serve"), ("--help",)])
def test_a_reader_that_was_never_there_ends_it_quietly_too(arguments: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [*LORAKEET, *arguments],
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=TIMEOUT_S,
        check=False,
        env=environment,
    )
    os.close(write)
    assert done.stderr == b""
    assert done.returncode == 141


def _with(redirection: str, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    shell = ["sh", "-c", f'exec "$@" {redirection}', "sh"]
    return subprocess.run(
        [*shell, *LORAKEET, *arguments], capture_output=True, timeout=TIMEOUT_S, check=False
    )


@posix
@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_command_works_with_streams_that_are_closed(
    photographs: Path, demo_tagger: Path, redirection: str, form: tuple[str, ...]
) -> None:
    done = _with(redirection, "tag", str(photographs), "--model", str(demo_tagger), *form)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert len(list(photographs.glob("*.txt"))) == 4


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
def test_a_full_disk_behind_stdout_is_no_traceback() -> None:
    done = _with(">/dev/full", "--json", "serve")
    assert (done.returncode, done.stderr) == (141, b"")
