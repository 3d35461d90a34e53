"""`lorakeet tag FOLDER`: captions beside the images of a folder, through a kernel of its own."""

import argparse
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from contract.errors import FileUnreadable, JobCanceled, LorakeetError, SettingsInvalid, from_wire
from contract.methods.job import MANIFEST_FROM, FailedImage, ManifestItem
from contract.methods.tag import TaggedImage, TagOutcome, TagSettings
from contract.notifications import Partial
from contract.rules import paths
from contract.rules.captions import Existing, combine
from contract.rules.paths import to_wire
from orchestrator.cli.exits import Exit
from orchestrator.cli.flags import add_settings, given_settings, tagger_model
from orchestrator.cli.kernel_jobs import own_kernel, show
from orchestrator.cli.output import Output
from orchestrator.files import caption_files
from orchestrator.files.folders import Image, collisions, find_images, links_out
from orchestrator.files.snapshots import folders_of_model
from orchestrator.ids import new_id
from orchestrator.settings import Settings, decode_table, load, read_toml


def add(parser: argparse.ArgumentParser) -> None:
    """The command's own flags, then one for every setting."""
    parser.add_argument("folder", type=_folder, help="folder of images")
    parser.add_argument("--settings", metavar="FILE.toml", help="settings in a file; flags win over it")
    parser.add_argument("--recursive", action="store_true", help="also the folders inside it")
    parser.add_argument(
        "--existing",
        choices=("skip", "append", "overwrite"),
        default="skip",
        help="images that have a caption already: leave them, add new tags, or replace it. Default: skip.",
    )
    parser.add_argument(
        "--extension", type=_extension, default=".txt", help="ending of caption files. Default: .txt."
    )
    parser.add_argument(
        "--queue", action="store_true", help="let the studio do it; the folder is one of its datasets"
    )
    add_settings(parser, TagSettings)


async def run(arguments: argparse.Namespace, output: Output) -> Exit:
    """Tag the folder. Raises LorakeetError."""
    settings, chosen = load(arguments.home), _chosen(arguments)
    if arguments.queue:
        from orchestrator.cli.queueing import queue_tagging

        return await queue_tagging(arguments, chosen, output)
    locked: list[str] = []
    images = find_images(
        arguments.folder, recursive=arguments.recursive, extension=arguments.extension, locked=locked
    )
    caption_files.clear_leftovers(image.caption for image in images)
    work = _Work(arguments.folder, images, chosen, arguments.existing, output)
    for folder in locked:
        work.fail(folder, FileUnreadable("The folder cannot be read.", where=to_wire(folder)))
    try:
        if work.todo:
            await _tag(work, arguments.folder, settings)
    finally:
        work.close()
    return work.exit


class _Work:
    """The images of one command: which are to be done, and what has become of them."""

    def __init__(
        self, folder: str, images: Sequence[Image], settings: TagSettings, existing: Existing, output: Output
    ) -> None:
        self.settings = settings
        self.outcome: TagOutcome | None = None
        self._existing = existing
        self._output = output
        self._written = 0
        self._failed = 0
        unusable: dict[str, LorakeetError] = {**collisions(images), **links_out(images, folder)}
        usable = [image for image in images if image.path not in unusable]
        self.todo = [image for image in usable if existing != "skip" or not os.path.lexists(image.caption)]
        self._skipped = len(usable) - len(self.todo)
        output.event("started", images=len(self.todo), skipped=self._skipped)
        for image in images:
            if image.path in unusable:
                self.fail(image.path, unusable[image.path])

    def take(self, method: str, params: Any) -> None:
        """The sink of the job."""
        match params:
            case Partial():
                for item in msgspec.convert(params.items, list[TaggedImage]):
                    self._caption(item)
                for failure in msgspec.convert(params.failed, list[FailedImage]):
                    self.fail(self.todo[failure.index].path, from_wire(failure.error))
            case _:
                show(params, self._output)

    @property
    def exit(self) -> Exit:
        return Exit.SOME_FAILED if self._failed else Exit.DONE

    def close(self) -> None:
        """Bring what was written to the disk, and say what has become of it all, however it ended."""
        self._output.end_progress()
        if self._written:
            caption_files.settle()
        warnings = self.outcome.warnings if self.outcome else []
        self._output.event(
            "finished",
            written=self._written,
            failed=self._failed,
            skipped=self._skipped,
            outcome=None if self.outcome is None else _brief(self.outcome),
        )
        for warning in warnings:
            self._output.note(f"warning: {warning}", "yellow")
        self._output.say(self._summary())

    def _caption(self, item: TaggedImage) -> None:
        image = self.todo[item.index]
        try:
            old = caption_files.read(image.caption) if self._existing == "append" else None
            text = combine(
                old,
                item.caption,
                self._existing,
                self.settings.separator,
                first=self.settings.always_first,
            )
            if not self._put(image.caption, text or ""):
                self._skipped += 1
                return
        except LorakeetError as error:
            self.fail(image.path, error)
            return
        self._written += 1
        self._output.event(
            "tagged",
            image=to_wire(image.path),
            caption_file=to_wire(image.caption),
            caption=text,
            rating=item.rating,
            tags=item.tags,
        )

    def _put(self, path: str, caption: str) -> bool:
        """Write a caption; False where there is one by now and it is to be left alone."""
        if self._existing == "skip":
            return caption_files.write_new(path, caption)
        caption_files.write(path, caption)
        return True

    def fail(self, path: str, error: LorakeetError) -> None:
        """Name something that cannot be done, and why."""
        self._failed += 1
        self._output.event("failed", image=to_wire(path), error=error.to_wire())
        hint = f" {error.hint}" if error.hint else ""
        self._output.note(f"failed: {to_wire(path)}: {error.message}{hint}", "red")

    def _summary(self) -> str:
        parts = [f"{_counted(self._written, 'caption')} written"]
        if self._skipped:
            parts.append(f"{_counted(self._skipped, 'image')} left alone, having one (see --existing)")
        if self._failed:
            parts.append(f"{self._failed} failed")
        if self.outcome is not None and self.outcome.timings.get("wall_s"):
            rate = self.outcome.tagged / self.outcome.timings["wall_s"]
            parts.append(f"{rate:.1f} images/s on {self.outcome.provider}")
        return ", ".join(parts) + "."


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


async def _tag(work: _Work, folder: str, settings: Settings) -> None:
    """Run the job on a kernel of its own."""
    with _inputs(work.todo) as (inputs, inputs_root):
        folders = [folder, *folders_of_model(work.settings.model.path), *inputs_root]
        async with own_kernel(settings, map(os.path.abspath, folders)) as kernel:
            params = {"job_id": new_id("job"), "v": 2, "inputs": inputs, "settings": work.settings}
            try:
                work.outcome = await kernel.run("tag", params, work.take)
            except JobCanceled as canceled:
                # A kernel that leaves may have nothing to hand over.
                work.outcome = msgspec.convert(canceled.partial, TagOutcome | None)
                raise


class _Inputs(NamedTuple):
    inputs: dict[str, Any]
    roots: list[str]


@contextmanager
def _inputs(images: Sequence[Image]) -> Iterator[_Inputs]:
    """The job's inputs, and the roots they need; many images go into a manifest."""
    named = [to_wire(image.path) for image in images]
    if len(named) < MANIFEST_FROM:
        yield _Inputs({"images": named}, [])
        return
    with tempfile.TemporaryDirectory(prefix="lorakeet-") as folder:
        manifest = Path(folder) / "manifest.jsonl"
        manifest.write_bytes(b"".join(msgspec.json.encode(ManifestItem(path=each)) + b"\n" for each in named))
        yield _Inputs({"manifest": str(manifest)}, [folder])


def _chosen(arguments: argparse.Namespace) -> TagSettings:
    """The settings: defaults, below the file's, below the flags. Raises SettingsInvalid."""
    table: dict[str, Any] = {}
    source: str = "settings"
    if arguments.settings is not None:
        path = Path(arguments.settings)
        table, source = _relative_to(path.parent, read_toml(path)), str(path)
        # Judged by itself first, so that what is wrong in the file is not said of a flag.
        decode_table({"model": {"repo": "any"}} | table, TagSettings, path)
    return decode_table(table | given_settings(arguments, TagSettings), TagSettings, source)


def _relative_to(folder: Path, table: dict[str, Any]) -> dict[str, Any]:
    """A model's folder in a settings file is meant from where the file lies; a name is as for the flag."""
    match table:
        case {"model": str(name)}:
            return table | {"model": _named(name)}
        case {"model": {"path": str(path)} as model}:
            absolute = (folder / Path(path).expanduser()).absolute()
            return table | {"model": {**model, "path": to_wire(str(absolute))}}
        case _:
            return table


def _named(name: str) -> Any:
    try:
        return tagger_model(name)
    except argparse.ArgumentTypeError as error:
        raise SettingsInvalid(f"model: {error}", where="model") from None


def _folder(text: str) -> str:
    # An empty text is a shell variable that was never set, and would mean the folder one stands in.
    if not text:
        raise argparse.ArgumentTypeError("name a folder")
    return text


def _extension(text: str) -> str:
    """`.txt` or `txt`. Never the ending of an image: a caption would take the place of a picture."""
    extension = f".{text.removeprefix('.')}"
    if not re.fullmatch(r"(\.[A-Za-z0-9_-]+)+", extension):
        raise argparse.ArgumentTypeError(f"`{text}` is no file ending such as .txt")
    if f".{extension.rpartition('.')[2]}".lower() in paths.IMAGE_SUFFIXES:
        raise argparse.ArgumentTypeError(f"`{text}` is the ending of images, which are never written")
    return extension


def _brief(outcome: TagOutcome) -> TagOutcome:
    """Without the failures, each of which has had an event of its own."""
    return msgspec.structs.replace(outcome, failed=[])
