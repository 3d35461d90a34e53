"""`lorakeet metadata FILE`: the metadata of a safetensors file, edited; its tensors stay as they are."""

import argparse
from typing import Any

from contract.methods.metadata import MetadataSettings
from orchestrator.cli import outcomes
from orchestrator.cli.exits import Exit
from orchestrator.cli.output import Output
from orchestrator.cli.surgery import add_flags, carry_out
from orchestrator.cli.task import Task
from orchestrator.cli.weights import OUT_HELP, existing_file, new_file
from orchestrator.settings import decode_table


def add(parser: argparse.ArgumentParser) -> None:
    """The file and what becomes of its metadata."""
    parser.add_argument("file", metavar="FILE", type=existing_file, help="the safetensors file")
    parser.add_argument(
        "--set",
        type=_assignment,
        action="append",
        default=[],
        metavar="KEY=TEXT",
        help="write a text under a key, new or in its place; once for each key",
    )
    parser.add_argument(
        "--remove",
        action="append",
        default=[],
        metavar="KEY",
        help="remove a key, or many: `*` stands for any characters, as in 'ss_*'",
    )
    parser.add_argument(
        "--strip-paths",
        action="store_true",
        help="of every file or folder named in training metadata, leave the last part of its path",
    )
    parser.add_argument(
        "--out", metavar="OUT", type=new_file, help=f"{OUT_HELP}. Default: FILE itself is changed"
    )
    add_flags(parser)


async def run(arguments: argparse.Namespace, output: Output) -> Exit:
    """Edit it. Raises LorakeetError."""
    table: dict[str, Any] = {
        "set": dict(arguments.set),
        "remove": arguments.remove,
        "strip_paths": arguments.strip_paths,
    }
    settings = decode_table(table, MetadataSettings, "settings")
    task = Task("metadata", MetadataSettings, settings, arguments.file, arguments.out, outcomes.edited)
    return await carry_out(task, arguments, output)


def _assignment(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"`{text}`: write KEY=TEXT")
    return key, value
