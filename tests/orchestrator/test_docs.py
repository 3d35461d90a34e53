"""The documentation of the command line says what the code does."""

from pathlib import Path

from orchestrator.cli.commands import COMMANDS
from orchestrator.cli.exits import MEANINGS

_PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


def test_every_exit_code_stands_in_the_documentation_with_its_meaning() -> None:
    for code, meaning in MEANINGS.items():
        assert f"| {int(code)} | {meaning} |" in _PAGE


def test_every_command_stands_in_the_documentation() -> None:
    for name in COMMANDS:
        assert f"| `lorakeet {name}" in _PAGE
