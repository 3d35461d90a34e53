"""`--queue`: the same job, for the studio to do, on files and folders that it may use."""

import argparse
import os
from pathlib import Path

import msgspec

from contract.errors import NotFound, SettingsInvalid
from contract.methods.tag import TagSettings
from contract.methods.train_file import TrainFile
from contract.methods.training.source import TrainSource
from contract.rules.paths import from_wire, to_wire
from orchestrator.cli.api import JSON, Api, api
from orchestrator.cli.exits import Exit
from orchestrator.cli.folders import folder_at, place_of, place_of_file
from orchestrator.cli.jobs_shown import state_line
from orchestrator.cli.output import Output
from orchestrator.cli.task import Task
from orchestrator.cli.training_file import source_of
from orchestrator.models.layouts import MADE


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
    _say_queued(studio, job, output)
    return Exit.DONE


async def queue_surgery(arguments: argparse.Namespace, task: Task, output: Output) -> Exit:
    """Put the job into the queue.

    Raises NotFound for a file that the studio may not use, SettingsInvalid for an output elsewhere than below
    the studio's outputs, and InvalidParams.
    """
    if arguments.overwrite:
        raise SettingsInvalid("The studio never overwrites; it numbers names.", where="--overwrite")
    async with api(arguments.home) as studio:
        body = {
            "kind": task.method,
            "settings": msgspec.to_builtins(task.settings),
            "source": None
            if task.file is None
            else {"files": [await _file_in(studio, arguments.home, task.file)]},
            "output": None if task.out is None else _below_outputs(arguments.home, task.out),
        }
        job = await studio.post("/jobs", body)
    _say_queued(studio, job, output)
    return Exit.DONE


async def queue_training(arguments: argparse.Namespace, training: TrainFile, output: Output) -> Exit:
    """Put the job into the queue.

    Raises NotFound for a dataset that there is not and for a folder that the studio may not use,
    SettingsInvalid for what only a kernel of the command's own does, and InvalidParams.
    """
    target = _target(arguments, training)
    async with api(arguments.home) as studio:
        body = {
            "kind": "train",
            "settings": msgspec.to_builtins(training.settings),
            "source": await _source(studio, arguments.home, source_of(training)),
            "output": target,
        }
        job = await studio.post("/jobs", body)
    _say_queued(studio, job, output)
    return Exit.DONE


def _target(arguments: argparse.Namespace, training: TrainFile) -> str:
    """The name of the LoRA below the outputs."""
    assert training.output is not None
    if training.output.overwrite:
        raise SettingsInvalid("The studio never overwrites; it numbers names.", where="output.overwrite")
    if arguments.restart or arguments.resume is not None:
        raise SettingsInvalid(
            "A job of the studio goes on by itself.",
            where="--restart" if arguments.restart else "--resume",
            hint="`lorakeet jobs retry` goes on with one that has ended.",
        )
    name, folder = training.output.name, training.output.folder
    return name if folder is None else _below_outputs(arguments.home, os.path.join(from_wire(folder), name))


async def _source(studio: Api, home: Path, source: TrainSource) -> dict[str, object]:
    """What the job works on: a dataset, also one that is named by its folder, or folders."""
    if source.dataset is not None:
        return {"dataset": (await _dataset_named(studio, source.dataset))["id"]}
    places = [await _place(studio, home, folder) for folder in source.folders]
    if len(places) == 1:
        async for dataset in studio.all("/datasets"):
            if places == [{"root": dataset["root"], "path": dataset["path"]}]:
                return {"dataset": dataset["id"]}
    return {"folders": places}


async def _place(studio: Api, home: Path, folder: str) -> dict[str, str]:
    place = await place_of(studio, home, folder_at(from_wire(folder)))
    if place is None:
        raise NotFound(
            f"{folder} lies in none of the studio's folders.",
            where=folder,
            hint="`lorakeet datasets add` makes it one; without --queue no studio is needed.",
        )
    return {"root": place[0], "path": place[1]}


async def _dataset_named(studio: Api, name: str) -> JSON:
    found = [each async for each in studio.all("/datasets") if name in (each["id"], each["name"])]
    if not found:
        raise NotFound(f"There is no dataset {name}.", where=name, hint="`lorakeet datasets list` shows all.")
    if len(found) > 1:
        ids = ", ".join(each["id"] for each in found)
        raise SettingsInvalid(f"Several datasets are named {name}; say which by its id: {ids}.", where=name)
    return found[0]


def _say_queued(studio: Api, job: JSON, output: Output) -> None:
    output.event("queued", job=job)
    output.say(f"{job['id']}: {state_line(job)}")
    output.note(f"`lorakeet jobs follow {job['id']}` shows how it goes.")
    if studio.own is not None:
        output.note("It begins as soon as the studio runs: `lorakeet serve`.")


async def _file_in(studio: Api, home: Path, file: str) -> dict[str, str]:
    """The root and path of a file. Raises NotFound."""
    place = await place_of_file(studio, home, Path(from_wire(file)))
    if place is None:
        raise NotFound(
            f"{file} lies in none of the studio's folders.",
            where=file,
            hint="Put it into the studio's models, or leave --queue out: then no studio is needed.",
        )
    return {"root": place[0], "path": place[1]}


def _below_outputs(home: Path, out: str) -> str:
    """The name of an output: what it is called in the folder where people stand, or below the outputs.

    Raises SettingsInvalid.
    """
    path = Path(os.path.normpath(from_wire(out)))
    for folder in (Path(os.path.abspath(home / MADE)), Path.cwd()):
        if path.is_relative_to(folder):
            return to_wire(path.relative_to(folder).as_posix())
    raise SettingsInvalid(
        "With --queue the output is a name below the studio's outputs.",
        where="--out",
        hint="Name it without a folder.",
    )


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
