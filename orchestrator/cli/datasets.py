"""`lorakeet datasets VERB`: folders of images that the studio knows, and their captions."""

import argparse

from contract.errors import NotFound
from contract.rules.paths import to_wire
from orchestrator.cli.api import JSON, Api
from orchestrator.cli.exits import Exit
from orchestrator.cli.folders import folder_at, with_root
from orchestrator.cli.output import Output
from orchestrator.cli.table import lines
from orchestrator.cli.verbs import Verb, add_verbs, nothing, run

__all__ = ["add", "run"]


def add(parser: argparse.ArgumentParser) -> None:
    """The verbs."""
    add_verbs(
        parser,
        (
            Verb("list", "every dataset", _list, nothing),
            Verb("create", "a new, empty dataset in the data directory", _create, _name),
            Verb("add", "use a folder of yours as a dataset, where it lies", _add, _folder),
            Verb("show", "one dataset, its images and their captions", _show, _dataset),
        ),
    )


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="what it is called")


def _folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="a folder of images; nothing in it is changed by this")
    parser.add_argument("--name", help="what it is called. Default: the folder's name.")


def _dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="NAME|ID", help="name or id of the dataset")


async def _list(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    rows = []
    async for dataset in studio.all("/datasets"):
        output.event("dataset", dataset=dataset)
        counts = f"{dataset['captioned']}/{dataset['images']} captioned"
        rows.append((dataset["id"], dataset["name"], counts, f"{dataset['root']}:{dataset['path']}"))
    for line in lines(rows):
        output.say(line)
    return Exit.DONE


async def _create(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    _say(await studio.post("/datasets", {"name": arguments.name}), output)
    return Exit.DONE


async def _add(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    folder = folder_at(arguments.folder)
    root, path = await with_root(studio, arguments.home, folder)
    _say(
        await studio.post(
            "/datasets",
            {"name": arguments.name or to_wire(folder.name), "folder": {"root": root, "path": path}},
        ),
        output,
    )
    if studio.own is not None:
        output.note("Its images are looked at as soon as the studio runs: `lorakeet serve`.")
    return Exit.DONE


async def _show(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    dataset = await _found(studio, arguments.dataset)
    output.event("dataset", dataset=dataset)
    _describe(dataset, output)
    rows = []
    async for image in studio.all(f"/datasets/{dataset['id']}/images"):
        output.event("image", image=image)
        rows.append((image["path"], _caption(image)))
    for line in lines(rows):
        output.say(line)
    return Exit.DONE


async def _found(studio: Api, name: str) -> JSON:
    """Raises NotFound."""
    async for dataset in studio.all("/datasets"):
        if name in (dataset["id"], dataset["name"]):
            return dataset
    raise NotFound(
        f"There is no dataset {name}.", where=name, hint="`lorakeet datasets list` shows all of them."
    )


def _say(dataset: JSON, output: Output) -> None:
    output.event("dataset", dataset=dataset)
    output.say(f"{dataset['name']} is {dataset['id']}.")


def _describe(dataset: JSON, output: Output) -> None:
    output.say(f"{dataset['name']} ({dataset['id']}), {dataset['root']}:{dataset['path']}")
    output.say(f"  {dataset['images']} images, {dataset['captioned']} of them with a caption")
    if dataset["problem"]:
        output.say(f"  problem: {dataset['problem']['detail']}")


def _caption(image: JSON) -> str:
    if image["problem"]:
        return f"({image['problem']['detail']})"
    texts = [each["text"] for each in image["captions"].values() if each["text"]]
    return " ".join(" | ".join(texts).split())
