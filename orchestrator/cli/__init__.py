"""`lorakeet`: the commands, their exit codes, and the one place where errors become words."""

import argparse
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from types import ModuleType
from typing import Final

import anyio

from contract.errors import LorakeetError
from orchestrator import __version__
from orchestrator.cli import doctor, serve, tag
from orchestrator.cli.exits import MEANINGS, Exit, exit_for
from orchestrator.cli.output import Output
from orchestrator.groups import task_group
from orchestrator.home import home
from orchestrator.settings import load

_COMMANDS: Final[dict[str, ModuleType]] = {"serve": serve, "tag": tag, "doctor": doctor}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    given = parser().parse_args(arguments)
    output = Output(json=given.json)
    given.home = home(given.data)
    try:
        settings = load(given.home)
        return anyio.run(_interruptible, lambda: given.command.run(given, settings, output), output)
    except LorakeetError as error:
        output.end_progress()
        output.error(error)
        return exit_for(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="lorakeet", description="The LoRA studio.", epilog=_exit_codes(), formatter_class=_Raw
    )
    top.add_argument("--version", action="version", version=f"lorakeet {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for name, module in _COMMANDS.items():
        summary = (module.__doc__ or "").partition(": ")[2].strip()
        command = commands.add_parser(name, help=summary, description=summary, epilog=_exit_codes())
        command.formatter_class = _Raw
        command.add_argument(
            "--json", action="store_true", help="one JSON event a line on stdout, nothing else"
        )
        command.add_argument(
            "--data", metavar="DIR", help="data directory. Default: $LORAKEET_HOME or ~/lorakeet"
        )
        module.add(command)
        command.set_defaults(command=module)
    return top


async def _interruptible(run: Callable[[], Awaitable[Exit]], output: Output) -> Exit:
    """Run the command; the first SIGINT or SIGTERM ends it in good order, the second at once."""
    result: Exit = Exit.BUG
    async with task_group() as tasks:
        interrupted = _Interrupted(tasks.cancel_scope)
        await tasks.start(interrupted.listen)
        result = await run()
        tasks.cancel_scope.cancel()
    output.end_progress()
    return interrupted.exit or result


class _Interrupted:
    def __init__(self, scope: anyio.CancelScope) -> None:
        self._scope = scope
        self.exit: Exit | None = None

    async def listen(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        if sys.platform == "win32":
            # asyncio's own handling of Ctrl+C cancels the command there.
            task_status.started()
            return
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                if self.exit is not None:
                    # Every caption is written by rename, and the kernel leaves when its stdin ends.
                    os._exit(self.exit)
                self.exit = Exit.INTERRUPTED if number == signal.SIGINT else Exit.TERMINATED
                self._scope.cancel()


class _Raw(argparse.RawDescriptionHelpFormatter):
    """Keeps the table of exit codes as it is."""


def _exit_codes() -> str:
    return "exit codes:\n" + "\n".join(f"  {code:<4} {text}" for code, text in MEANINGS.items())
