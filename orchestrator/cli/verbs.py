"""Commands with verbs, such as `lorakeet presets list`: each verb is a coroutine over the API."""

import argparse
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from orchestrator.cli.api import Api, api
from orchestrator.cli.common import CODES_ELSEWHERE, Raw, add_common
from orchestrator.cli.exits import Exit
from orchestrator.cli.output import Output

Run = Callable[[argparse.Namespace, Api, Output], Awaitable[Exit]]


class Verb(NamedTuple):
    """`add` gives the parser its flags."""

    name: str
    summary: str
    run: Run
    add: Callable[[argparse.ArgumentParser], None]


def add_verbs(parser: argparse.ArgumentParser, verbs: Iterable[Verb]) -> None:
    """Give `parser` the verbs; one of them must be given."""
    choices = parser.add_subparsers(metavar="VERB", required=True)
    for verb in verbs:
        own = choices.add_parser(
            verb.name,
            help=verb.summary,
            description=verb.summary,
            epilog=CODES_ELSEWHERE,
            formatter_class=Raw,
        )
        add_common(own)
        verb.add(own)
        own.set_defaults(verb=verb.run)


def nothing(parser: argparse.ArgumentParser) -> None:
    """No flags."""


async def run(arguments: argparse.Namespace, output: Output) -> Exit:
    """Carry the verb out. Raises LorakeetError."""
    verb: Run = arguments.verb
    async with api(arguments.home) as studio:
        return await verb(arguments, studio, output)
