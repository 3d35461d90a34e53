"""`lorakeet link`: a fresh link that logs one browser in, of the studio that runs."""

import argparse

from orchestrator.cli.api import api
from orchestrator.cli.exits import Exit
from orchestrator.cli.output import Output


def add(parser: argparse.ArgumentParser) -> None:
    """No flags of its own."""


async def run(arguments: argparse.Namespace, output: Output) -> Exit:
    """Ask for a link and say it. Raises NotReady where no studio runs, and other LorakeetErrors."""
    async with api(arguments.home) as studio:
        link = await studio.post("/session/links")
    output.event("link", **link)
    for url in link["urls"]:
        output.say(url)
    output.note("Good once, for ten minutes.")
    return Exit.DONE
