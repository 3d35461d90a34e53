"""The commands by their names, and the one place where errors become words and exit codes."""

import argparse
import sys
from collections.abc import Awaitable, Callable, Sequence
from types import ModuleType
from typing import Final

import anyio

from contract.errors import LorakeetError
from orchestrator import __version__
from orchestrator.cli import doctor, serve, tag
from orchestrator.cli.exits import MEANINGS, Exit, exit_for
from orchestrator.cli.interruptions import Interruptions
from orchestrator.cli.output import Output
from orchestrator.cli.streams import Unheard, silence
from orchestrator.home import home

COMMANDS: Final[dict[str, ModuleType]] = {"serve": serve, "tag": tag, "doctor": doctor}


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command to its end; its exit code."""
    given = _parsed(arguments)
    if isinstance(given, int):
        return given
    output = Output(json=given.json)
    try:
        return _carried_out(given, output)
    except Unheard:
        silence()
        return Exit.UNHEARD


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="lorakeet", description="The LoRA studio.", epilog=_exit_codes(), formatter_class=_Raw
    )
    top.add_argument("--version", action="version", version=f"lorakeet {__version__}")
    _add_common(top, json=False, data=None)
    commands = top.add_subparsers(metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").partition(": ")[2].strip()
        command = commands.add_parser(name, help=summary, description=summary, epilog=_exit_codes())
        command.formatter_class = _Raw
        # Without defaults, which would undo what was given before the command.
        _add_common(command, json=argparse.SUPPRESS, data=argparse.SUPPRESS)
        module.add(command)
        command.set_defaults(command=module)
    return top


def _add_common(parser: argparse.ArgumentParser, *, json: object, data: object) -> None:
    parser.add_argument(
        "--json", action="store_true", default=json, help="one JSON event a line on stdout, nothing else"
    )
    parser.add_argument(
        "--data", metavar="DIR", default=data, help="data directory. Default: $LORAKEET_HOME or ~/lorakeet"
    )


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace | int:
    """What was asked for, or the exit code where argparse has said all there is to say."""
    top = parser()
    try:
        given = top.parse_args(arguments)
    except SystemExit as leaving:
        return int(leaving.code or 0)
    if not hasattr(given, "command"):
        top.print_help(sys.stderr)
        return Exit.USAGE
    return given


def _carried_out(given: argparse.Namespace, output: Output) -> Exit:
    try:
        given.home = home(given.data)
        return anyio.run(_interruptible, lambda: given.command.run(given, output), output)
    except LorakeetError as error:
        output.end_progress()
        output.error(error)
        return exit_for(error)


async def _interruptible(run: Callable[[], Awaitable[Exit]], output: Output) -> Exit:
    """Run the command; the first SIGINT or SIGTERM ends it in good order, the second at once."""
    result: Exit = Exit.BUG
    with anyio.CancelScope() as scope:
        interruptions = Interruptions(scope)
        result = await run()
    output.end_progress()
    if interruptions.exit is None:
        return result
    output.note("Interrupted. The same command goes on where it ended.")
    return interruptions.exit


class _Raw(argparse.RawDescriptionHelpFormatter):
    """Keeps the table of exit codes as it is."""


def _exit_codes() -> str:
    return "exit codes:\n" + "\n".join(f"  {code:<4} {text}" for code, text in MEANINGS.items())
