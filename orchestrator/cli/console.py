"""stderr as rich writes it."""

from typing import NoReturn

from rich.console import Console

from orchestrator.cli.streams import Unheard


class HeardConsole(Console):
    """A console whose end is an exception like any other."""

    def on_broken_pipe(self) -> NoReturn:
        raise Unheard
