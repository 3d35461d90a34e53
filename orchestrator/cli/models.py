"""`lorakeet models VERB`: the model files that the studio knows."""

import argparse

from orchestrator.cli.api import Api
from orchestrator.cli.exits import Exit
from orchestrator.cli.output import Output
from orchestrator.cli.table import lines, size
from orchestrator.cli.verbs import Verb, add_verbs, run

__all__ = ["add", "run"]


def add(parser: argparse.ArgumentParser) -> None:
    """The verbs."""
    add_verbs(parser, (Verb("list", "every model, or those that fit", _list, _which),))


def _which(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", nargs="?", help="only those with this in their name or path")
    parser.add_argument("--kind", help="only of this kind, such as checkpoint, lora or tagger")
    parser.add_argument("--family", help="only of this family, such as sdxl")


async def _list(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    rows = []
    query = {"kind": arguments.kind, "family": arguments.family, "q": arguments.text}
    async for model in studio.all("/models", **query):
        output.event("model", model=model)
        kind, family = model["kind"] or "?", model["family"] or ""
        rows.append((model["name"], kind, family, size(model["size_bytes"]), model["root"], model["path"]))
    for line in lines(rows):
        output.say(line)
    return Exit.DONE
