"""What every command line has: flags that may stand anywhere, and the table of exit codes."""

import argparse

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


def exit_codes() -> str:
    """The table for the end of a help page."""
    return "exit codes:\n" + "\n".join(f"  {code:<4} {text}" for code, text in MEANINGS.items())


class Raw(argparse.RawDescriptionHelpFormatter):
    """Keeps the table of exit codes as it is."""
