import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from contract.errors import ErrorData, LorakeetError, ProtocolError, WireError, from_wire, leaves
from contract.fields import describe
from contract.methods.tag import TagSettings
from orchestrator.cli.commands import COMMANDS, parser
from orchestrator.cli.exits import Exit, exit_for
from orchestrator.cli.flags import tagger_model
from orchestrator.cli.output import printable
from tests.orchestrator.cli.command import lorakeet


def test_a_wrong_command_is_a_usage_error() -> None:
    assert lorakeet("tagg").code == Exit.USAGE


def test_no_command_is_a_usage_error_that_shows_the_help() -> None:
    done = lorakeet()
    assert (done.code, done.stdout) == (Exit.USAGE, "")
    assert done.stderr == parser_help()
    assert "captions beside the images" in done.stderr


def parser_help() -> str:
    return lorakeet("--help").stdout


def test_flags_of_every_command_may_stand_before_it_or_after_it(tmp_path: Path) -> None:
    for arguments in (["--json", "--data", "d", "serve"], ["serve", "--json", "--data", "d"]):
        given = parser().parse_args(arguments)
        assert (given.json, given.data) == (True, "d")
    for arguments in (
        ["--json", "presets", "list", "--data", "d"],
        ["presets", "--data", "d", "list", "--json"],
    ):
        given = parser().parse_args(arguments)
        assert (given.json, given.data) == (True, "d")
    given = parser().parse_args(["serve"])
    assert (given.json, given.data) == (False, None)


def test_every_command_is_a_module_that_says_what_it_is() -> None:
    for name in COMMANDS:
        module = import_module(f"orchestrator.cli.{name}")
        assert (module.__doc__ or "").startswith(f"`lorakeet {name}")


def test_a_command_is_found_whatever_its_flags_are_called() -> None:
    assert lorakeet("--data", "tag", "presets", "--help").code == Exit.DONE


def test_only_the_command_that_is_given_is_loaded() -> None:
    code = "import sys; from orchestrator.cli.commands import parser; parser({'tag'}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    loaded = done.stdout.decode().split()
    assert "orchestrator.cli.tag" in loaded
    assert not {
        "orchestrator.cli.presets",
        "orchestrator.cli.doctor",
        "starlette",
        "uvicorn",
        "httpx",
        "rich",
    } & set(loaded)


def test_every_field_of_the_settings_has_a_flag_with_its_help() -> None:
    shown = lorakeet("tag", "--help").stdout
    for spec in describe(TagSettings):
        assert "--" + spec.name.replace("_", "-") in shown


#: What each error makes of a command.
CODES = {
    Exit.BUG: "parse_error invalid_request line_too_long method_not_found internal_error not_initialized"
    " job_identity already_running conflict unknown_job body_invalid media_type_wrong method_not_allowed"
    " version_required key_reused",
    Exit.USAGE: "invalid_params settings_invalid",
    Exit.NO_KERNEL: "canceled level_unsupported version_unsupported busy shutting_down"
    " kernel_died kernel_unavailable kernel_timeout kernel_fault",
    Exit.REFUSED: "path_not_absolute path_outside_roots file_missing file_unreadable no_images"
    " caption_collision caption_unreadable manifest_invalid file_unwritable image_empty image_truncated"
    " image_invalid image_too_large model_incomplete model_mismatch model_external_data model_not_onnx"
    " model_interface model_not_found body_too_large range_invalid not_found state_conflict stale_version"
    " weights_format weights_damaged weights_unknown weights_incomplete weights_mismatch weights_not_finite"
    " weights_unsupported weights_changed output_exists output_is_input"
    " host_refused cross_site unauthorized too_many_attempts store_too_new",
    Exit.NO_STUDIO: "not_ready store_locked",
    Exit.FAILED: "out_of_memory device_lost disk_full load_failed nan_loss dependency_missing"
    " dependency_conflict download_failed store_damaged worker_died worker_timeout",
}


def test_every_error_has_the_exit_code_that_is_meant_for_it() -> None:
    expected = {kind: code for code, kinds in CODES.items() for kind in kinds.split()}
    assert {leaf.kind: exit_for(leaf.__new__(leaf)) for leaf in leaves()} == expected


def test_an_error_of_a_newer_kernel_has_the_exit_code_of_its_family() -> None:
    def newer(code: int) -> LorakeetError:
        return from_wire(WireError(code=code, message="?", data=ErrorData(kind="newer")))

    assert exit_for(newer(-32050)) == Exit.BUG and isinstance(newer(-32050), ProtocolError)
    assert exit_for(newer(1099)) == Exit.NO_KERNEL
    assert exit_for(newer(2999)) == Exit.REFUSED
    assert exit_for(newer(9999)) == Exit.FAILED


def test_a_broken_settings_file_is_a_usage_error_in_json_too(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "settings.toml").write_text("x = 1\n", encoding="utf-8")
    done = lorakeet("tag", tmp_path, "--model", "wd-vit-v3", "--json")
    assert done.code == Exit.USAGE
    assert done.of("error")[0]["error"]["data"]["kind"] == "settings_invalid"
    done = lorakeet("doctor", "--json")
    assert done.code == Exit.PROBLEMS
    assert "settings_invalid" in [each["kind"] for each in done.of("report")[0]["problems"]]


def test_a_model_is_a_folder_a_repository_or_a_short_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tagger_model("./mine") == {"path": str(tmp_path / "mine")}
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
        "import sys, json, orchestrator.cli.commands;"
        "heavy = {'torch', 'onnxruntime', 'numpy', 'PIL', 'diffusers'};"
        "print(json.dumps(sorted(heavy & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    assert json.loads(done.stdout) == []
