"""What every command line has: flags that may stand anywhere, and the table of exit codes."""

import argparse
import shutil
import textwrap
from typing import Final

from orchestrator.cli.exits import MEANINGS


def add_common(
    parser: argparse.ArgumentParser, *, json: object = argparse.SUPPRESS, data: object = argparse.SUPPRESS
) -> None:
    """`--json` and `--data`; below the top without defaults, which would undo what was given before."""
    parser.add_argument(
        "--json", action="store_true", default=json, help="one JSON event a line on stdout, nothing else"
    )
    parser.add_argument(
        "--data", metavar="DIR", default=data, help="data directory. Default: $LORAKEET_HOME or ~/lorakeet"
    )


#: The end of the help page of a command.
CODES_ELSEWHERE: Final = "`lorakeet --help` says what the exit codes mean."


def exit_codes() -> str:
    """The table for the end of the first help page, as wide as the page."""
    width = shutil.get_terminal_size().columns - 2
    return "exit codes:\n" + "\n".join(
        textwrap.fill(text, width, initial_indent=f"  {code:<4} ", subsequent_indent=" " * 7)
        for code, text in MEANINGS.items()
    )


class Raw(argparse.RawDescriptionHelpFormatter):
    """Keeps the table of exit codes as it is."""
