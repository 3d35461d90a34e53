"""The documentation of the command line says what the code does."""

import re
import tomllib
from pathlib import Path

from contract.methods.tag import TagSettings
from contract.rules.taggers import SHORT_NAMES
from orchestrator.cli.commands import COMMANDS
from orchestrator.cli.exits import MEANINGS
from orchestrator.settings import decode_table

_PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


def test_every_exit_code_stands_in_the_documentation_with_its_meaning() -> None:
    for code, meaning in MEANINGS.items():
        assert f"| {int(code)} | {meaning} |" in _PAGE


def test_every_command_stands_in_the_documentation() -> None:
    for name in COMMANDS:
        assert f"| `lorakeet {name}" in _PAGE


def test_the_example_of_a_settings_file_is_one() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", _PAGE, re.DOTALL)
    (example,) = [block for block in blocks if "general_threshold" in block]
    table = tomllib.loads(example)
    settings = decode_table({**table, "model": {"repo": "any/one"}}, TagSettings, "the example")
    assert (settings.exclude, settings.replace) == (["watermark", "signature"], {"grey_hair": "gray hair"})
    assert table["model"] in SHORT_NAMES
