"""`lorakeet serve`: the studio, in the browser and over HTTP."""

import argparse
import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from contract.errors import SettingsInvalid
from contract.rules.paths import to_wire
from orchestrator.cli.exits import Exit
from orchestrator.cli.output import Output
from orchestrator.serving.door import DEFAULT_HOST, DEFAULT_PORT

if TYPE_CHECKING:
    from orchestrator.serving.server import Ready

TOKEN_VARIABLE: Final = "LORAKEET_TOKEN"
_MAX_PORT: Final = 65_535


def add(parser: argparse.ArgumentParser) -> None:
    """Where it listens, and how it is reached."""
    parser.add_argument(
        "--host",
        default=DEFAULT_HOST,
        help=f"address to listen on. Default: {DEFAULT_HOST}, which only this machine can reach.",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=DEFAULT_PORT,
        help=f"port to listen on; 0 takes any that is free. Default: {DEFAULT_PORT}.",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME[:PORT]",
        help="a name under which browsers reach the studio from outside; may be given again. Needed beyond "
        "this machine. Also: $LORAKEET_HOSTS.",
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help=f"a file with the token for this run, instead of the studio's own. Also: ${TOKEN_VARIABLE}.",
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open the browser")


async def run(arguments: argparse.Namespace, output: Output) -> Exit:
    """Run the studio until it is told to stop. Raises LorakeetError."""
    # Until it is ready; see `orchestrator.cli`.
    gc.disable()
    from orchestrator.serving.browser import has_browser
    from orchestrator.serving.server import serve

    await serve(
        arguments.home,
        host=arguments.host,
        port=arguments.port,
        hosts=arguments.allow_host,
        token=_token(arguments.token_file),
        with_browser=not (arguments.no_browser or output.json) and has_browser(os.environ),
        on_ready=lambda ready: _say(ready, output),
    )
    return Exit.DONE


def _say(ready: "Ready", output: Output) -> None:
    # What is there by now stays, and is not worth another look.
    gc.freeze()
    gc.enable()
    output.event("ready", **msgspec.to_builtins(ready))
    output.say(f"The studio runs at {ready.url}")
    output.say("To log in, open this link; it is good once, for ten minutes:")
    for link in ready.links:
        output.say(f"  {link}")
    if ready.token is not None:
        output.say("The token for scripts, shown only now (keep it as you would a password):")
        output.say(f"  {ready.token}")
    output.say("`lorakeet link` prints another link. Ctrl+C stops the studio.")


def _token(file: str | None) -> str | None:
    """The token from outside, where one was given. Raises SettingsInvalid."""
    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        return Path(file).read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "it is no text"
        named = to_wire(file)
        raise SettingsInvalid(f"{named} cannot be read: {why}.", where="--token-file") from None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _MAX_PORT):
        raise argparse.ArgumentTypeError(f"`{text}` is no port; write a number from 0 to {_MAX_PORT}")
    return int(text)
