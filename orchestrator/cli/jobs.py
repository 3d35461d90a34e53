"""`lorakeet jobs VERB`: the studio's queue and everything that was ever in it."""

import argparse
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from contract.errors import NotFound, SettingsInvalid
from contract.methods.train import ACTIONS
from orchestrator.cli.api import JSON, Api
from orchestrator.cli.exits import Exit
from orchestrator.cli.following import follow
from orchestrator.cli.jobs_shown import row, state_line, told
from orchestrator.cli.output import Output
from orchestrator.cli.table import lines, size
from orchestrator.cli.verbs import Verb, add_verbs, run

__all__ = ["add", "run"]

_LAST: Final = "last"
_SHOWN: Final = 20


def add(parser: argparse.ArgumentParser) -> None:
    """The verbs."""
    add_verbs(
        parser,
        (
            Verb("list", "the newest jobs, or those that wait", _list, _which),
            Verb("show", "one job with everything", _show, _job),
            Verb("cancel", "end jobs, or take them out of the queue", _cancel, _which_end),
            Verb("pause", "stop a training with a checkpoint; its device is free for others", _pause, _job),
            Verb("resume", "let a job that is paused go on", _resume, _job),
            Verb("order", "tell a running training to save, sample, or end after its epoch", _order, _what),
            Verb("retry", "another attempt of a job that failed, was canceled or interrupted", _retry, _job),
            Verb("reorder", "bring a job that waits to another place", _reorder, _place),
            Verb("follow", "show what a job does until it has ended", _follow, _job),
            Verb("log", "the end of a job's log", _log, _how_much),
        ),
    )


def _job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="ID", help="id of the job, or `last` for the newest")


def _jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("jobs", metavar="ID", nargs="+", help="id of a job, or `last` for the newest")


def _which_end(parser: argparse.ArgumentParser) -> None:
    _jobs(parser)
    parser.add_argument(
        "--now", action="store_true", help="without a checkpoint, also of one that is ending already"
    )


def _what(parser: argparse.ArgumentParser) -> None:
    _job(parser)
    parser.add_argument("action", metavar="ORDER", choices=ACTIONS, help=", ".join(ACTIONS))


def _which(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state", help="only those in these states, with commas, such as queued,running")
    parser.add_argument("--kind", help="only those of this kind, such as tag")
    parser.add_argument("--dataset", metavar="ID", help="only those of this dataset")
    parser.add_argument(
        "--queue", action="store_true", help="those that wait, in the order in which they start"
    )
    parser.add_argument("--all", action="store_true", help=f"all of them, not only {_SHOWN}")


def _place(parser: argparse.ArgumentParser) -> None:
    _job(parser)
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--first", dest="to", action="store_const", const="first", help="before all others")
    place.add_argument("--last", dest="to", action="store_const", const="last", help="behind all others")
    place.add_argument("--before", metavar="ID", help="before this job")
    place.add_argument("--after", metavar="ID", help="behind this job")


def _how_much(parser: argparse.ArgumentParser) -> None:
    _job(parser)
    parser.add_argument("--tail", type=_count, default=200, metavar="N", help="lines. Default: 200.")
    parser.add_argument(
        "--level", choices=("debug", "info", "warning", "error"), default="debug", help="the least important"
    )


async def _list(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    query: dict[str, Any] = {"state": arguments.state, "kind": arguments.kind, "dataset": arguments.dataset}
    if arguments.queue:
        query["order"] = "queue"
    rows: list[tuple[str, ...]] = []
    async for job in studio.all("/jobs", **query):
        if len(rows) == _SHOWN and not arguments.all:
            output.note("There are more: --all shows them.")
            break
        output.event("job", job=job)
        rows.append(row(job))
    for line in lines(rows):
        output.say(line)
    return Exit.DONE


async def _show(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    job = await studio.get(f"/jobs/{await _id(studio, arguments.job)}")
    output.event("job", job=job)
    for line in _description(job):
        output.say(line)
    return Exit.DONE


async def _cancel(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    mode = "now" if arguments.now else None
    for each in arguments.jobs:
        _say(await studio.post(f"/jobs/{await _id(studio, each)}/cancel", mode=mode), output)
    return Exit.DONE


async def _pause(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    _say(await studio.post(f"/jobs/{await _id(studio, arguments.job)}/pause"), output)
    return Exit.DONE


async def _resume(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    _say(await studio.post(f"/jobs/{await _id(studio, arguments.job)}/resume"), output)
    return Exit.DONE


async def _order(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    job_id = await _id(studio, arguments.job)
    _say(await studio.post(f"/jobs/{job_id}/actions", {"action": arguments.action}), output)
    return Exit.DONE


async def _retry(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    job = await studio.post(f"/jobs/{await _id(studio, arguments.job)}/retry")
    _say(job, output)
    return Exit.DONE


async def _reorder(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    places = {"to": arguments.to, "before": arguments.before, "after": arguments.after}
    given = {name: value for name, value in places.items() if value is not None}
    job_id = await _id(studio, arguments.job)
    queue = await studio.post("/queue/reorder", {"job_id": job_id, **given})
    output.event("queue", queue=queue)
    output.say(f"{job_id} is number {queue['waiting'].index(job_id) + 1} of {len(queue['waiting'])}.")
    return Exit.DONE


async def _follow(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    return await follow(studio, arguments.home, await _id(studio, arguments.job), output)


async def _log(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    job_id = await _id(studio, arguments.job)
    log = await studio.get(f"/jobs/{job_id}/log", tail=arguments.tail, level=arguments.level)
    for line in log["lines"]:
        output.event("log", **line)
        output.say(f"{line['at']} {line['level']:<7} {line['message']}")
    return Exit.DONE


async def _id(studio: Api, given: str) -> str:
    """The id of a job that is named by its id, or as the last one. Raises NotFound and SettingsInvalid."""
    if given == _LAST:
        newest = (await studio.get("/jobs", limit=1))["items"]
        if not newest:
            raise NotFound("There are no jobs yet.")
        return str(newest[0]["id"])
    if not given.startswith("job_") or not given.isalnum() and not given.replace("_", "").isalnum():
        raise SettingsInvalid(
            f"`{given}` is no id of a job.", where="ID", hint="`lorakeet jobs list` shows them."
        )
    return given


def _say(job: JSON, output: Output) -> None:
    output.event("job", job=job)
    output.say(f"{job['id']}: {state_line(job)}")


def _description(job: JSON) -> Iterator[str]:
    yield f"{job['name']} ({job['kind']}, {job['id']})"
    yield f"  {state_line(job)}"
    for name in ("created_at", "started_at", "finished_at"):
        if job[name]:
            yield f"  {name.removesuffix('_at')} {job[name]}"
    for name, value in job["settings"].items():
        if value not in (None, [], {}):
            yield f"  {name} = {_value(value)}"
    for each in job["transitions"]:
        yield f"  {each['at']} {each['after']} ({each['reason']})"
    for each in job["artifacts"]:
        yield f"  made {each['name']}, {size(each['size_bytes'])}"
    for line in told(job):
        yield f"  {line}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"`{text}`: write a number from 1 to 10000")
    return int(text)
