"""`lorakeet keys VERB`: keys of services such as Hugging Face. Nobody is shown one again."""

import argparse
import sys

import anyio.to_thread

from contract.errors import SettingsInvalid
from orchestrator.cli.api import JSON, Api
from orchestrator.cli.exits import Exit
from orchestrator.cli.output import Output
from orchestrator.cli.table import lines
from orchestrator.cli.verbs import Verb, add_verbs, nothing, run

__all__ = ["add", "run"]


def add(parser: argparse.ArgumentParser) -> None:
    """The verbs."""
    add_verbs(
        parser,
        (
            Verb("list", "every service, and whether its key is set", _list, nothing),
            Verb("set", "set a key, which is asked for, or read from stdin", _set, _name),
            Verb("delete", "forget a key", _delete, _name),
        ),
    )


def _name(parser: argparse.ArgumentParser) -> None:
    # Never the key itself: every user of the machine can read the arguments of a command.
    parser.add_argument("service", help="as `list` names it, such as huggingface")


async def _list(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    keys = (await studio.get("/keys"))["items"]
    for key in keys:
        output.event("key", key=key)
    for line in lines([(key["name"], key["title"], _state(key)) for key in keys]):
        output.say(line)
    return Exit.DONE


async def _set(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    value = await anyio.to_thread.run_sync(_asked_for, arguments.service)
    answer = await studio.ask("PUT", f"/keys/{arguments.service}", body={"value": value})
    key = answer.json()
    output.event("key", key=key)
    output.say(f"{key['title']}: {_state(key)}.")
    return Exit.DONE


async def _delete(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    await studio.delete(f"/keys/{arguments.service}")
    output.event("deleted", name=arguments.service)
    output.say(f"The key of {arguments.service} is forgotten.")
    return Exit.DONE


def _asked_for(service: str) -> str:
    if sys.stdin is not None and sys.stdin.isatty():
        from getpass import getpass

        # On the terminal, not on stdout, which belongs to `--json`.
        value = getpass(f"Key of {service} (not shown): ").strip()
    else:
        value = sys.stdin.readline().strip() if sys.stdin is not None else ""
    if not value:
        raise SettingsInvalid("No key came on stdin.", where="stdin", hint="Write it there, on one line.")
    return value


def _state(key: JSON) -> str:
    if not key["set"]:
        return "not set"
    ending = f", ends with {key['last4']}" if key["last4"] else ""
    return f"set{ending} (in {'the keyring' if key['place'] == 'keyring' else 'a file'})"
