"""What the commands of LoRA and checkpoint surgery share: their flags, and who does the job."""

import argparse
from collections.abc import Iterator
from typing import Any

import msgspec

from orchestrator.cli.exits import Exit
from orchestrator.cli.kernel_jobs import run_job
from orchestrator.cli.output import Output
from orchestrator.cli.task import Task
from orchestrator.cli.weights import folder_of
from orchestrator.jobs.settings_tree import paths_in


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What every command that makes a file has."""
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it is there already")
    parser.add_argument(
        "--queue",
        action="store_true",
        help="let the studio do it: its own folders and models only, the output goes to its outputs",
    )


async def carry_out(task: Task, arguments: argparse.Namespace, output: Output) -> Exit:
    """Do it on a kernel of the command's own, or put it into the queue. Raises LorakeetError."""
    if arguments.queue:
        # Only this needs the API.
        from orchestrator.cli.queueing import queue_surgery

        return await queue_surgery(arguments, task, output)
    output.event("started", method=task.method, settings=task.settings, file=task.file, out=task.out)
    outcome = await run_job(
        arguments.home, task.method, _params(task, arguments.overwrite), _folders(task), output
    )
    output.event("finished", outcome=outcome)
    for warning in outcome.warnings:
        output.note(f"warning: {warning}", "yellow")
    for line in task.words(outcome):
        output.say(line)
    return Exit.DONE


def _params(task: Task, overwrite: bool) -> dict[str, Any]:
    params: dict[str, Any] = {"v": 1, "settings": task.settings}
    params["inputs"] = {} if task.file is None else {"file": task.file}
    return params if task.out is None else params | {"outputs": {"file": task.out, "overwrite": overwrite}}


def _folders(task: Task) -> Iterator[str]:
    """Where the files really lie, and where the output is to."""
    if task.file is not None:
        yield folder_of(task.file)
    for _, path in paths_in(task.kind, msgspec.to_builtins(task.settings)):
        yield folder_of(path)
    if task.out is not None:
        yield folder_of(task.out)
