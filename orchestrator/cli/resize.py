"""`lorakeet resize IN OUT`: the same LoRA of other ranks, through a kernel of its own."""

import argparse
import os
from collections.abc import Iterator
from typing import Any

from contract.methods.resize import ResizeSettings
from contract.rules.paths import from_wire
from orchestrator.cli import outcomes
from orchestrator.cli.exits import Exit
from orchestrator.cli.flags import add_settings, given_settings
from orchestrator.cli.output import Output
from orchestrator.cli.surgery import add_flags, carry_out
from orchestrator.cli.task import Task
from orchestrator.cli.weights import OUT_HELP, existing_file, new_file
from orchestrator.settings import decode_table


def add(parser: argparse.ArgumentParser) -> None:
    """The files, then a flag for every setting."""
    parser.add_argument("file", metavar="IN", type=existing_file, help="the LoRA, a safetensors file")
    parser.add_argument("out", metavar="OUT", type=new_file, help=OUT_HELP)
    add_flags(parser)
    add_settings(parser, ResizeSettings)


async def run(arguments: argparse.Namespace, output: Output) -> Exit:
    """Resize it. Raises LorakeetError."""
    settings = decode_table(given_settings(arguments, ResizeSettings), ResizeSettings, "settings")
    file: str = arguments.file

    def words(outcome: Any) -> Iterator[str]:
        return outcomes.resized(outcome, os.path.getsize(from_wire(file)))

    task = Task("resize", ResizeSettings, settings, file, arguments.out, words)
    return await carry_out(task, arguments, output)
