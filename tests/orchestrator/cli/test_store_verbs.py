"""Verbs over what the studio keeps: the same answers whether a studio runs or not."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.exits import Exit
from orchestrator.store.lock import lock
from tests.orchestrator.cli.command import LORAKEET, TIMEOUT_S, Done, lorakeet
from tests.orchestrator.own_studio import Serving


@pytest.fixture
def home() -> Path:
    return Path(os.environ["LORAKEET_HOME"])


@pytest.fixture(params=["alone", "beside a studio"])
def store(request: pytest.FixtureRequest, home: Path) -> Iterator[Path]:
    with Serving(home) if request.param == "beside a studio" else nullcontext():
        yield home


def given(text: str, *arguments: str) -> Done:
    """A command with something on its stdin."""
    done = subprocess.run(
        [*LORAKEET, *arguments], input=text.encode(), capture_output=True, timeout=TIMEOUT_S, check=False
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def made(*arguments: str) -> dict[str, Any]:
    done = lorakeet("--json", "presets", "create", *arguments)
    assert done.code == Exit.DONE, done.stdout
    preset: dict[str, Any] = done.of("preset")[0]["preset"]
    return preset


def test_a_preset_is_made_listed_shown_and_deleted(store: Path) -> None:
    preset = made("mild", "general_threshold=0.4", 'exclude=["a b"]', "--description", "for cats")
    assert preset["settings"] == {"general_threshold": 0.4, "exclude": ["a b"]}
    assert [each["preset"] for each in lorakeet("--json", "presets", "list").events] == [preset]
    assert lorakeet("presets", "list", "--kind", "tag").stdout == f"tag  mild  {preset['id']}  for cats\n"
    for name in ("mild", preset["id"]):
        assert lorakeet("--json", "presets", "show", name).of("preset")[0]["preset"] == preset
    assert "general_threshold = 0.4" in lorakeet("presets", "show", "mild").stdout
    assert lorakeet("--json", "presets", "delete", "mild").of("deleted") == [
        {"event": "deleted", "id": preset["id"]}
    ]
    assert lorakeet("presets", "show", "mild").code == Exit.REFUSED


@pytest.mark.parametrize("ending", ["toml", "json"])
def test_a_preset_travels_in_a_file(tmp_path: Path, ending: str) -> None:
    made("mild", "general_threshold=0.4", "model.repo=owner/name", "--description", "for cats")
    file = tmp_path / f"mild.{ending}"
    assert lorakeet("presets", "export", "mild", file).code == Exit.DONE
    twice = lorakeet("presets", "import", file)
    assert (twice.code, "already" in twice.stderr) == (Exit.REFUSED, True)
    assert lorakeet("presets", "import", "--replace", file).code == Exit.DONE
    assert lorakeet("presets", "delete", "mild").code == Exit.DONE
    back = lorakeet("--json", "presets", "import", file).of("preset")[0]["preset"]
    assert (back["name"], back["description"]) == ("mild", "for cats")
    assert back["settings"] == {"general_threshold": 0.4, "model": {"repo": "owner/name"}}


def test_a_wrong_file_among_several_means_that_none_is_imported(tmp_path: Path) -> None:
    good, wrong = tmp_path / "good.toml", tmp_path / "wrong.toml"
    good.write_text('kind = "tag"\nname = "good"\n', encoding="utf-8")
    wrong.write_text('kind = "tag"\nnmae = "wrong"\n', encoding="utf-8")
    done = lorakeet("presets", "import", good, wrong)
    assert (done.code, "wrong.toml" in done.stderr) == (Exit.USAGE, True)
    assert lorakeet("presets", "list").stdout == ""


def test_refusals_have_the_words_and_codes_of_their_errors(store: Path) -> None:
    done = lorakeet("--json", "presets", "create", "x", "nonsense=1", "general_threshold=3")
    assert done.code == Exit.USAGE
    error = done.of("error")[0]["error"]
    assert (error["code"], error["data"]["kind"]) == (-32602, "invalid_params")
    assert "$.settings.general_threshold" in error["message"] + error["data"]["where"]
    made("x")
    again = lorakeet("presets", "create", "x")
    assert (again.code, "There is a preset named x already." in again.stderr) == (Exit.REFUSED, True)
    missing = lorakeet("--json", "presets", "delete", "y")
    assert (missing.code, missing.of("error")[0]["error"]["data"]["kind"]) == (Exit.REFUSED, "not_found")


def test_settings_are_shown_changed_and_given_back_their_default(store: Path) -> None:
    listed = {each["name"]: each["value"] for each in lorakeet("--json", "settings", "list").events}
    assert listed["limits.workers"] == 2
    assert lorakeet("settings", "set", "limits.workers", "3").stdout == "limits.workers is 3.\n"
    assert lorakeet("settings", "get", "limits.workers").stdout == "3\n"
    assert "workers = 3" in (store / "settings.toml").read_text("utf-8")
    unset = lorakeet("--json", "settings", "unset", "limits.workers")
    assert unset.events == [{"event": "setting", "name": "limits.workers", "value": 2}]
    assert lorakeet("settings", "set", "limits.workers", "many").code == Exit.USAGE
    assert lorakeet("settings", "get", "limits.wrokers").code == Exit.REFUSED


def test_a_key_comes_on_stdin_and_is_never_shown(store: Path) -> None:
    key = "hf_abcdefghijklmnop"
    done = given(f"{key}\n", "keys", "set", "huggingface")
    assert (done.code, "mnop" in done.stdout) == (Exit.DONE, True)
    listed = lorakeet("--json", "keys", "list")
    states = {each["key"]["name"]: each["key"] for each in listed.events}
    assert (states["huggingface"]["set"], states["huggingface"]["last4"]) == (True, "mnop")
    assert key not in done.stdout + done.stderr + listed.stdout
    assert lorakeet("keys", "delete", "huggingface").code == Exit.DONE
    assert "not set" in lorakeet("keys", "list").stdout.splitlines()[0]
    assert given("\n", "keys", "set", "huggingface").code == Exit.USAGE
    assert given("k" * 20, "keys", "set", "nobody").code == Exit.REFUSED


def test_models_are_listed(store: Path) -> None:
    (model,) = lorakeet("--json", "models", "list").of("model")
    assert model["model"]["name"] == "demo-tagger"
    assert lorakeet("models", "list", "no such").stdout == ""
    assert lorakeet("models", "list", "--kind", "nonsense").code == Exit.USAGE


def test_a_link_needs_a_studio(home: Path) -> None:
    done = lorakeet("link")
    assert (done.code, "lorakeet serve" in done.stderr) == (Exit.NO_STUDIO, True)
    with Serving(home) as studio:
        url = lorakeet("link").stdout.strip()
        assert studio.ask("GET", url.removeprefix(studio.ready["url"])).status == 303


def test_a_studio_that_is_gone_leaves_nothing_in_the_way(home: Path) -> None:
    with Serving(home) as studio:
        made("mild")
        studio.kill()
        assert (home / "studio.json").exists()
        assert "mild" in lorakeet("presets", "list").stdout


@pytest.mark.skipif(sys.platform == "win32", reason="finds the process by its number")
def test_another_program_with_the_number_of_the_studio_is_not_the_studio(home: Path) -> None:
    made("mild")
    with Serving(home / "other") as other:
        about = json.loads((other.home / "studio.json").read_text("utf-8"))
        (home / "studio.json").write_text(json.dumps(about | {"boot_id": "boot_0"}), encoding="utf-8")
        assert "mild" in lorakeet("presets", "list").stdout
        (home / "studio.json").write_text(json.dumps(about | {"url": "http://127.0.0.1:9"}), encoding="utf-8")
        assert "mild" in lorakeet("presets", "list").stdout


def test_a_data_directory_in_use_is_waited_for_and_then_named(home: Path) -> None:
    with lock(home):
        done = lorakeet("presets", "list")
    assert done.code == Exit.NO_STUDIO
    assert "in use by another studio or command" in done.stderr


def test_verbs_have_help_and_none_is_a_usage_error() -> None:
    assert lorakeet("presets").code == Exit.USAGE
    shown = lorakeet("presets", "--help").stdout
    for verb in ("list", "show", "create", "export", "import", "delete"):
        assert f"\n    {verb} " in shown


def test_a_backup_is_made_beside_a_running_studio(store: Path, tmp_path: Path) -> None:
    made("mild")
    done = lorakeet("--json", "backup", tmp_path / "copy.db")
    assert done.code == Exit.DONE
    assert done.of("backup")[0]["bytes"] == (tmp_path / "copy.db").stat().st_size
    assert lorakeet("backup", tmp_path / "copy.db").code == Exit.REFUSED
    restored = tmp_path / "restored"
    restored.mkdir()
    (tmp_path / "copy.db").rename(restored / "control.db")
    assert "mild" in lorakeet("presets", "list", "--data", restored).stdout
