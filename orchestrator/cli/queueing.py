"""`--queue`: the same job, for the studio to do, on a folder that is one of its datasets."""

import argparse
from pathlib import Path

import msgspec

from contract.errors import NotFound, SettingsInvalid
from contract.methods.tag import TagSettings
from contract.rules.paths import to_wire
from orchestrator.cli.api import JSON, Api, api
from orchestrator.cli.exits import Exit
from orchestrator.cli.folders import folder_at, place_of
from orchestrator.cli.jobs_shown import state_line
from orchestrator.cli.output import Output


async def queue_tagging(arguments: argparse.Namespace, settings: TagSettings, output: Output) -> Exit:
    """Put the job into the queue. Raises NotFound for a folder that is no dataset, and InvalidParams."""
    if arguments.recursive or arguments.extension != ".txt":
        raise SettingsInvalid(
            "A dataset has one way to find its images and captions.",
            where="--queue",
            hint="Leave --recursive and --extension out.",
        )
    folder = folder_at(arguments.folder)
    async with api(arguments.home) as studio:
        dataset = await _dataset_in(studio, arguments.home, folder)
        body = {
            "kind": "tag",
            "settings": msgspec.to_builtins(settings),
            "source": {"dataset": dataset["id"]},
            "existing": arguments.existing,
        }
        job = await studio.post("/jobs", body)
    output.event("queued", job=job)
    output.say(f"{job['id']}: {state_line(job)}")
    output.note(f"`lorakeet jobs follow {job['id']}` shows how it goes.")
    if studio.own is not None:
        output.note("It begins as soon as the studio runs: `lorakeet serve`.")
    return Exit.DONE


async def _dataset_in(studio: Api, home: Path, folder: Path) -> JSON:
    place = await place_of(studio, home, folder)
    async for dataset in studio.all("/datasets"):
        if place == (dataset["root"], dataset["path"]):
            return dataset
    named = to_wire(str(folder))
    raise NotFound(
        f"{named} is none of the studio's datasets.",
        where=named,
        hint="`lorakeet datasets add` makes a folder one; without --queue no studio is needed.",
    )
