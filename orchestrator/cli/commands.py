"""The commands by their names, and the one place where errors become words and exit codes."""

import argparse
import gc
import sys
from collections.abc import Awaitable, Callable, Collection, Sequence
from importlib import import_module
from types import ModuleType
from typing import Final, NamedTuple

import anyio

from contract.errors import LorakeetError
from orchestrator import __version__
from orchestrator.cli.common import CODES_ELSEWHERE, Raw, add_common, exit_codes
from orchestrator.cli.exits import Exit, exit_for
from orchestrator.cli.interruptions import Interruptions
from orchestrator.cli.output import Output
from orchestrator.cli.streams import Unheard, silence
from orchestrator.home import home


class Command(NamedTuple):
    """A module of this package; it is loaded only when its command is given, for a start in no time."""

    summary: str
    #: What people read when they have interrupted it.
    interrupted: str = "Interrupted. The same command goes on where it ended."
    #: Seconds after which it is ended, when it was interrupted and has not ended by itself.
    patience_s: float | None = None


_NOTHING_WRITTEN: Final = "Interrupted. Nothing was written."

COMMANDS: Final = {
    "serve": Command("the studio, in the browser and over HTTP", "The studio has stopped.", 36.0),
    "tag": Command("captions beside the images of a folder, through a kernel of its own"),
    "train": Command(
        "a LoRA from folders of pictures; goes on by itself where it was stopped", "Interrupted."
    ),
    "reproduce": Command("the settings that a LoRA was trained with, to train it again", _NOTHING_WRITTEN),
    "demo": Command(
        "everything once, with a small model and drawn pictures: tag, train, sample, resize",
        "Interrupted. What was made stays.",
    ),
    "inspect": Command(
        "what a file of weights is, what made it, and what programs will load of it", "Interrupted."
    ),
    "resize": Command("a LoRA made smaller: the same effect from fewer ranks", _NOTHING_WRITTEN),
    "merge": Command(
        "LoRAs or checkpoints into one, LoRAs into a checkpoint, a LoRA out of two, or a whole recipe",
        _NOTHING_WRITTEN,
    ),
    "metadata": Command("edit the metadata of a safetensors file; its tensors stay", _NOTHING_WRITTEN),
    "jobs": Command(
        "the queue, and all that was ever in it: list, show, cancel, retry, reorder, follow, log",
        "Not followed any more. The job goes on.",
    ),
    "datasets": Command("folders of images that the studio knows: list, create, add, show"),
    "presets": Command("settings with a name: list, show, create, export, import, delete"),
    "models": Command("the model files that the studio knows: list"),
    "settings": Command("what stands in settings.toml: list, get, set, unset"),
    "keys": Command("keys of services such as Hugging Face: list, set, delete"),
    "link": Command("a fresh link that logs one browser in, of the studio that runs"),
    "backup": Command("a copy of what the studio keeps, made while it runs"),
    "doctor": Command("what is installed, what works, what is wrong, and the command that mends it"),
}


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command to its end; its exit code."""
    given = _parsed(sys.argv[1:] if arguments is None else arguments)
    if isinstance(given, int):
        return given
    output = Output(json=given.json)
    try:
        return _carried_out(given, output)
    except Unheard:
        silence()
        return Exit.UNHEARD


def parser(loaded: Collection[str] = COMMANDS.keys()) -> argparse.ArgumentParser:
    """The command line, with the flags of the commands in `loaded`."""
    top = argparse.ArgumentParser(
        prog="lorakeet", description="The LoRA studio.", epilog=exit_codes(), formatter_class=Raw
    )
    top.add_argument("--version", action="version", version=f"lorakeet {__version__}")
    add_common(top, json=False, data=None)
    commands = top.add_subparsers(metavar="COMMAND")
    for name, about in COMMANDS.items():
        command = commands.add_parser(name, help=about.summary, epilog=CODES_ELSEWHERE, formatter_class=Raw)
        command.description = about.summary
        add_common(command)
        if name in loaded:
            module = import_module(f"orchestrator.cli.{name}")
            module.add(command)
            command.set_defaults(command=name, module=module)
    return top


def _parsed(arguments: Sequence[str]) -> argparse.Namespace | int:
    """What was asked for, or the exit code where argparse has said all there is to say."""
    top = parser(COMMANDS.keys() & set(arguments))
    try:
        given = top.parse_args(arguments)
    except SystemExit as leaving:
        return int(leaving.code or 0)
    if not hasattr(given, "command"):
        top.print_help(sys.stderr)
        return Exit.USAGE
    return given


def _carried_out(given: argparse.Namespace, output: Output) -> Exit:
    module: ModuleType = given.module
    try:
        given.home = home(given.data)
        command = COMMANDS[given.command]
        gc.enable()
        return anyio.run(_interruptible, lambda: module.run(given, output), command, output)
    except LorakeetError as error:
        output.end_progress()
        output.error(error)
        return exit_for(error)


async def _interruptible(run: Callable[[], Awaitable[Exit]], command: Command, output: Output) -> Exit:
    """Run the command; the first SIGINT or SIGTERM ends it in good order, the second at once."""
    result: Exit = Exit.BUG
    with anyio.CancelScope() as scope:
        interruptions = Interruptions(scope, command.patience_s)
        result = await run()
    output.end_progress()
    if interruptions.exit is None:
        return result
    output.note(command.interrupted)
    return interruptions.exit
