"""`lorakeet metadata` from the outside, and what all commands of surgery share."""

import json
import os
import signal
import subprocess
from pathlib import Path

from orchestrator.models.header import read_header
from tests.orchestrator.cli.command import LORAKEET, TIMEOUT_S, lorakeet
from tests.orchestrator.models.files import write_model


def _metadata(path: Path) -> dict[str, str]:
    return read_header(str(path)).metadata


def test_a_file_is_edited_in_its_place(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.safetensors", metadata={"ss_a": "1", "ss_b": "2", "kept": "x"})
    done = lorakeet("metadata", path, "--set", "title=A = B", "--set", "kept=y", "--remove", "ss_*")
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "a.safetensors: 1 new, 1 changed, 2 removed",
        "  new: title",
        "  changed: kept",
        "  removed: ss_a, ss_b",
    ]
    assert _metadata(path) == {"kept": "y", "title": "A = B"}
    assert [each.name for each in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_copy_may_be_made_and_replaces_nothing_unasked(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.safetensors", metadata={"ss_dir": "/home/me/photos"})
    done = lorakeet("metadata", path, "--strip-paths", "--out", tmp_path / "b", "--json")
    assert (done.code, done.stderr) == (0, "")
    copy = tmp_path / "b.safetensors"
    (artifact,), (finished,) = done.of("artifact"), done.of("finished")
    assert (artifact["path"], artifact["size_bytes"]) == (str(copy), copy.stat().st_size)
    assert finished["outcome"]["sha256"] == artifact["sha256"]
    assert done.events[0]["event"] == "started"
    assert _metadata(path) == {"ss_dir": "/home/me/photos"}
    before = copy.read_bytes()
    again = lorakeet("metadata", path, "--set", "a=b", "--out", copy, "--json")
    assert again.code == 3
    assert again.of("error")[0]["error"]["data"]["kind"] == "output_exists"
    assert copy.read_bytes() == before
    assert lorakeet("metadata", path, "--set", "a=b", "--out", copy, "--overwrite").code == 0
    assert _metadata(copy)["a"] == "b"
    assert lorakeet("metadata", path, "--set", "a=c", "--out", path, "--overwrite").code == 3


def test_what_cannot_be_done_has_its_reason_and_its_code(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.safetensors")
    (tmp_path / "a.ckpt").write_bytes(b"PK\x03\x04")
    nothing = lorakeet("metadata", path)
    assert (nothing.code, nothing.stderr.strip()) == (2, "error: settings: set: nothing is to be changed.")
    missing = lorakeet("metadata", tmp_path / "no.safetensors", "--strip-paths")
    assert (missing.code, "does not exist" in missing.stderr) == (3, True)
    pickle = lorakeet("metadata", tmp_path / "a.ckpt", "--strip-paths")
    assert (pickle.code, "Convert it" in pickle.stderr) == (3, True)
    assert lorakeet("metadata", path, "--set", "=x").code == 2
    assert lorakeet("metadata", path, "--strip-paths", env={"LORAKEET_KERNEL": "/does/not/exist"}).code == 5


def test_ctrl_c_leaves_no_file_behind(tmp_path: Path) -> None:
    # Sparse: it takes no room to make, and a while to copy.
    path = write_model(tmp_path / "a.safetensors", {"x": ("U8", [4 << 30])})
    running = subprocess.Popen(
        [*LORAKEET, "metadata", path, "--set", "a=b", "--out", tmp_path / "b", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdout is not None
    for line in running.stdout:
        if json.loads(line)["event"] == "progress":
            break
    os.kill(running.pid, signal.SIGINT)
    running.communicate(timeout=TIMEOUT_S)
    assert running.returncode == 130
    assert [each.name for each in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_studio_does_it_when_it_is_asked(tmp_path: Path) -> None:
    home = tmp_path / "home"
    write_model(home / "models" / "loras" / "a.safetensors")
    model = home / "models" / "loras" / "a.safetensors"
    done = lorakeet(
        "metadata", model, "--set", "a=b", "--out", home / "outputs" / "x" / "b", "--queue", "--json"
    )
    assert done.code == 0, done.stdout
    (queued,) = done.of("queued")
    assert (queued["job"]["state"], queued["job"]["output"]) == ("queued", "x/b")
    assert queued["job"]["source"] == {"files": [{"root": "models", "path": "loras/a.safetensors"}]}
    outside = write_model(tmp_path / "b.safetensors")
    refused = lorakeet("metadata", outside, "--set", "a=b", "--queue")
    assert (refused.code, "none of the studio's folders" in refused.stderr) == (3, True)
    elsewhere = lorakeet("metadata", model, "--set", "a=b", "--out", "/elsewhere/b", "--queue")
    assert (elsewhere.code, "below the studio's outputs" in elsewhere.stderr) == (2, True)
    overwriting = lorakeet("metadata", model, "--set", "a=b", "--queue", "--overwrite")
    assert (overwriting.code, "never overwrites" in overwriting.stderr) == (2, True)
