"""`lorakeet serve`: the studio. Not in this version yet, and it says so."""

import argparse

from orchestrator.cli.exits import Exit
from orchestrator.cli.output import Output

_TEXT = """The studio (HTTP API and web UI) is not part of this version yet. What works today:

  lorakeet tag FOLDER --model REPO|DIR   captions beside the images of a folder
  lorakeet doctor                        what is installed, what works, what is wrong
  lorakeet-kernel                        the kernel itself, on stdin and stdout

In a clone, write `python3 start.py` for `lorakeet`. Both programs lie in .venv/bin."""


def add(parser: argparse.ArgumentParser) -> None:
    """No flags yet."""


async def run(arguments: argparse.Namespace, output: Output) -> Exit:
    """Say what there is instead."""
    output.event("unavailable", message=_TEXT)
    output.say(_TEXT)
    return Exit.UNAVAILABLE
