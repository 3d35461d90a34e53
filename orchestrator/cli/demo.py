"""`lorakeet demo`: the whole way once, from drawings to a LoRA and its samples, with nothing downloaded."""

import argparse
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import anyio

from contract.errors import FileUnwritable, KernelUnavailable, LoadFailed
from contract.rules.paths import to_wire
from orchestrator.cli import resize, tag, train
from orchestrator.cli.commands import parser
from orchestrator.cli.drawings import draw
from orchestrator.cli.exits import Exit
from orchestrator.cli.output import Output
from orchestrator.cli.runs import RUNS
from orchestrator.cli.values import as_toml, write_new
from orchestrator.files.durable import unwritten
from orchestrator.hosting.client import STDERR_TAIL
from orchestrator.hosting.kernels import INSTALL
from orchestrator.models.layouts import demo_tagger
from orchestrator.settings import load

_NAME: Final = "demo"
_FAMILY: Final = "sdxl"
#: What makes the small model.
_NEEDED: Final = ("torch", "diffusers", "transformers")
#: What takes seconds on a CPU and shows everything once.
TRAINING: Final[dict[str, Any]] = {
    "source": {"folders": ["pictures"]},
    "output": {"name": _NAME, "folder": "."},
    "model": {"base": f"models/{_FAMILY}.safetensors"},
    "network": {"type": "lora", "rank": 8, "alpha": 8.0},
    "data": {"resolution": 64, "flip": True, "buckets": {"min_side": 64, "step": 8}},
    "training": {"steps": 20, "batch_size": 2},
    "optimizer": {"type": "adamw", "learning_rate": 1e-3},
    "sampling": {"prompts": ["a house under the sun, wide image"], "every_steps": 10, "steps": 8},
    "memory": {"gradient_checkpointing": False},
    "saving": {"every_epochs": 0, "every_steps": 10},
}


def add(parser: argparse.ArgumentParser) -> None:
    """Where it takes place."""
    parser.add_argument(
        "--folder", metavar="DIR", help="a new folder for everything. Default: `demo` in the data directory"
    )


async def run(arguments: argparse.Namespace, output: Output) -> Exit:
    """Do it all. Raises LorakeetError."""
    tagger = _tagger()
    folder = _made_folder(arguments.folder, arguments.home)
    _say(output, "A small SDXL with random weights, and a few drawings.")
    await _write_model(folder / "models")
    _write_files(folder)
    for words, command in _commands(folder, tagger):
        _say(output, words, command)
        if (code := await _carried_out(command, arguments, folder, output)) is not Exit.DONE:
            return code
    _say_made(folder, output)
    return Exit.DONE


def _commands(folder: Path, tagger: str) -> list[tuple[str, list[str]]]:
    """What is done, in words and as anybody could do it."""
    lora, small = folder / f"{_NAME}.safetensors", folder / f"{_NAME}-small.safetensors"
    config = folder / f"{_NAME}.toml"
    return [
        (
            "Captions, by the tagger that comes with Lorakeet.",
            ["tag", str(folder / "pictures"), "--model", tagger],
        ),
        ("Training, with samples on the way.", ["train", str(config), "--data", str(folder)]),
        ("The same LoRA of half the rank.", ["resize", str(lora), str(small), "--rank", "4"]),
    ]


async def _carried_out(
    command: list[str], arguments: argparse.Namespace, folder: Path, output: Output
) -> Exit:
    given = parser([command[0]]).parse_args(command)
    given.home = arguments.home
    match command[0]:
        case "tag":
            return await tag.run(given, output)
        case "train":
            return await train.train(given, folder, load(arguments.home), output)
        case _:
            return await resize.run(given, output)


# What it takes ---------------------------------------------------------------------------------------------


def _tagger() -> str:
    """The folder of the demo tagger, where everything is installed. Raises KernelUnavailable."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    tagger = demo_tagger()
    if missing or tagger is None:
        raise KernelUnavailable(
            f"The demo makes its model with this Python, which has no {', '.join(missing) or 'kernel'}.",
            hint=f"In the clone of Lorakeet run `{INSTALL}` with this Python.",
        )
    return tagger


def _made_folder(chosen: str | None, home: Path) -> Path:
    """A new folder. Raises FileUnwritable and DiskFull."""
    folder = _free(home) if chosen is None else Path(chosen).expanduser().absolute()
    try:
        for name in ("models", "pictures"):
            (folder / name).mkdir(parents=True)
    except FileExistsError:
        named = to_wire(str(folder))
        raise FileUnwritable(f"{named} is in use.", where=named, hint="Name a new folder.") from None
    except OSError as error:
        raise unwritten(error, folder) from None
    return folder


def _free(home: Path) -> Path:
    number, folder = 1, home / _NAME
    while folder.exists():
        number += 1
        folder = home / f"{_NAME}-{number}"
    return folder


async def _write_model(folder: Path) -> None:
    """By a process of its own: torch is no library of ours. Raises LoadFailed."""
    command = [sys.executable, "-P", "-m", "trainer.fixtures", str(folder), "--family", _FAMILY]
    done = await anyio.run_process(command, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        tail = done.stderr[-STDERR_TAIL:].decode(errors="replace")
        raise LoadFailed(
            "The small model could not be made.",
            hint="`lorakeet doctor` says what is wrong.",
            details={"stderr_tail": tail},
        )


def _write_files(folder: Path) -> None:
    """Raises FileUnwritable and DiskFull."""
    try:
        draw(folder / "pictures")
    except OSError as error:
        raise unwritten(error, folder / "pictures") from None
    write_new(folder / f"{_NAME}.toml", as_toml(TRAINING).encode())


# What is said ----------------------------------------------------------------------------------------------


def _say(output: Output, words: str, command: list[str] | None = None) -> None:
    output.event("step", title=words, command=command and ["lorakeet", *command])
    output.note(f"\n{words}", "bold")
    if command is not None:
        output.note(f"$ lorakeet {shlex.join(command)}", "dim")


def _say_made(folder: Path, output: Output) -> None:
    samples = sorted((folder / RUNS / _NAME / "samples").glob("*.png"))
    loras = [folder / f"{_NAME}.safetensors", folder / f"{_NAME}-small.safetensors"]
    output.event("made", folder=to_wire(str(folder)), loras=_named(loras), samples=_named(samples))
    output.note(
        "\nDone. The model is random, so its pictures are noise; with a real one they are not.", "bold"
    )
    output.say("LoRA")
    for path in loras:
        output.say(f"  {to_wire(str(path))}")
    output.say("samples")
    for path in samples:
        output.say(f"  {to_wire(str(path))}")


def _named(paths: list[Path]) -> list[str]:
    return [to_wire(str(path)) for path in paths]
