"""The documentation of the command line says what the code does."""

import re
import tomllib
from pathlib import Path

from contract.methods.tag import TagSettings
from contract.rules.taggers import SHORT_NAMES
from orchestrator.cli.commands import COMMANDS
from orchestrator.cli.exits import MEANINGS
from orchestrator.cli.presets import PresetFile
from orchestrator.cli.training_file import Layer, source_of, told_from, training_of
from orchestrator.jobs.kinds import KINDS
from orchestrator.presets import check_partial
from orchestrator.settings import decode_table

_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def test_every_exit_code_stands_in_the_documentation_with_its_meaning() -> None:
    for code, meaning in MEANINGS.items():
        assert f"| {int(code)} | {meaning} |" in _PAGE


def test_every_command_stands_in_the_documentation() -> None:
    for name in COMMANDS:
        assert f"| `lorakeet {name}" in _PAGE


def test_the_example_of_a_settings_file_is_one() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", _PAGE, re.DOTALL)
    (example,) = [block for block in blocks if "always_first" in block]
    table = tomllib.loads(example)
    settings = decode_table({**table, "model": {"repo": "any/one"}}, TagSettings, "the example")
    assert (settings.exclude, settings.replace) == (["watermark", "signature"], {"grey_hair": "gray hair"})
    assert table["model"] in SHORT_NAMES


def test_the_example_of_a_training_is_one() -> None:
    (example,) = [each for each in re.findall(r"```toml\n(.*?)```", _PAGE, re.DOTALL) if "[source]" in each]
    told = told_from("/files", tomllib.loads(example))
    training = training_of([Layer("the example", told)], "the example")
    assert source_of(training).folders == ["/files/pictures"] and training.output is None


def test_the_example_of_a_preset_is_one() -> None:
    (example,) = [block for block in re.findall(r"```toml\n(.*?)```", _PAGE, re.DOTALL) if "kind =" in block]
    preset = decode_table(tomllib.loads(example), PresetFile, "the example")
    check_partial({name: kind.settings for name, kind in KINDS.items()}, preset.kind, preset.settings)


def test_every_event_of_a_command_stands_in_the_documentation() -> None:
    sources = (_ROOT / "orchestrator" / "cli").glob("*.py")
    said = {name for each in sources for name in re.findall(r'\.event\(\s*"(\w+)"', each.read_text("utf-8"))}
    assert len(said) > 15
    for name in said - {"report"}:
        assert f"| `{name}` |" in _PAGE


def test_every_verb_stands_in_the_documentation() -> None:
    for name in COMMANDS:
        verbs = re.findall(
            r'Verb\("(\w+)"', (_ROOT / "orchestrator" / "cli" / f"{name}.py").read_text("utf-8")
        )
        if verbs:
            listed = r"\|".join(verbs)
            assert f"| `lorakeet {name} {listed}`" in _PAGE
