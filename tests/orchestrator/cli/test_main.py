import json
import subprocess
import sys
from pathlib import Path

import pytest

from contract.errors import leaves
from contract.fields import describe
from contract.methods.tag import TagSettings
from orchestrator.cli import parser
from orchestrator.cli.exits import Exit, exit_for
from orchestrator.cli.flags import tagger_model
from orchestrator.cli.output import printable
from tests.orchestrator.cli.command import lorakeet


def test_serve_says_that_there_is_no_studio_yet_and_what_there_is() -> None:
    done = lorakeet("serve")
    assert done.code == Exit.UNAVAILABLE
    assert "not part of this version yet" in done.stdout
    assert "lorakeet tag" in done.stdout


def test_a_wrong_command_is_a_usage_error() -> None:
    assert lorakeet("tagg").code == Exit.USAGE
    assert lorakeet().code == Exit.USAGE


def test_every_field_of_the_settings_has_a_flag_with_its_help() -> None:
    shown = lorakeet("tag", "--help").stdout
    for spec in describe(TagSettings):
        assert "--" + spec.name.replace("_", "-") in shown


def test_every_error_has_an_exit_code() -> None:
    for leaf in leaves():
        error = leaf.__new__(leaf)
        assert exit_for(error) not in (Exit.DONE, Exit.BUG)


def test_a_broken_settings_file_is_a_usage_error_in_json_too(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "settings.toml").write_text("x = 1\n", encoding="utf-8")
    done = lorakeet("doctor", "--json")
    assert done.code == Exit.USAGE
    assert done.of("error")[0]["error"]["data"]["kind"] == "settings_invalid"


def test_a_model_is_a_folder_a_repository_or_a_short_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tagger_model("./mine") == {"path": f"{tmp_path}/mine"}
    assert tagger_model("wd14-vit-v2") == {"repo": "SmilingWolf/wd-v1-4-vit-tagger-v2"}
    assert tagger_model("owner/name@v2") == {"repo": "owner/name", "revision": "v2"}
    with pytest.raises(Exception, match="no known tagger"):
        tagger_model("nonsense")


def test_nothing_printed_can_break_a_terminal_or_an_encoding() -> None:
    assert printable("a\x1b[31mb\udcffc\n") == "a\\x1b[31mb\\udcffc\n"


def test_help_names_the_exit_codes() -> None:
    assert "exit codes:" in parser().format_help()


def test_the_light_half_loads_nothing_heavy() -> None:
    code = (
        "import sys, json, orchestrator.cli; heavy = {'torch', 'onnxruntime', 'numpy', 'PIL', 'diffusers'};"
        "print(json.dumps(sorted(heavy & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    assert json.loads(done.stdout) == []
