"""`lorakeet backup FILE`: a copy of what the studio keeps, made while it runs."""

import argparse
from pathlib import Path

import anyio.to_thread

from contract.rules.paths import to_wire
from orchestrator.cli.exits import Exit
from orchestrator.cli.output import Output


def add(parser: argparse.ArgumentParser) -> None:
    """Where to."""
    parser.add_argument("file", help="a new file for the copy of control.db")


async def run(arguments: argparse.Namespace, output: Output) -> Exit:
    """Make the copy. Raises FileMissing, FileUnwritable, StoreDamaged and DiskFull."""
    from orchestrator.store.backup import back_up
    from orchestrator.store.control import FILE

    named = to_wire(arguments.file)
    size = await anyio.to_thread.run_sync(back_up, arguments.home / FILE, Path(arguments.file))
    output.event("backup", file=named, bytes=size)
    output.say(f"{named} is a copy of control.db: {size} bytes, found to be whole.")
    return Exit.DONE
