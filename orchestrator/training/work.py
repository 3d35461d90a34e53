"""The job `train`: pictures with their captions in, a LoRA out. A kernel does all of it, and what it needs to
go on lies in the folder of its run, so that a later attempt is the same request once more.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from anyio import to_thread

from contract.errors import KernelFault
from contract.methods.job import FailedImage
from contract.methods.train import TrainMetrics, TrainSettings
from contract.notifications import Partial
from contract.rules.paths import from_wire, to_wire
from orchestrator.files.durable import unwritten
from orchestrator.files.snapshots import folders_of_weights
from orchestrator.jobs.settings_tree import paths_in
from orchestrator.jobs.sources import JobSource, checkpoint_of, folder_of
from orchestrator.jobs.work import Prepared, Run
from orchestrator.models.layouts import MADE
from orchestrator.training.measured import measurements, settle
from orchestrator.training.outcome import kept_outcome, shown
from orchestrator.training.pictures import pictures_of

SUFFIX: Final = ".safetensors"
#: The folder of the caches that all runs share, in the data directory.
CACHES: Final = "caches"


class _Source(NamedTuple):
    """`inputs` as they travel, and the folders to be granted for them."""

    inputs: dict[str, Any]
    folders: list[str]


class TrainWork:
    """One attempt of a training."""

    method: Final = "train"
    version: Final = 2

    async def prepare(self, run: Run) -> Prepared:
        """Freeze the pictures, and find the files.

        Raises what `pictures_of` and `checkpoint_of` raise, PathOutsideRoots and FileUnwritable.
        """
        settings = msgspec.convert(run.job.settings, TrainSettings)
        source = msgspec.convert(run.job.source, JobSource)
        found = await _source(run, source, settings)
        output = await to_thread.run_sync(_output, run)
        caches = await to_thread.run_sync(_made, run.studio.home / CACHES)
        models = await to_thread.run_sync(lambda: list(_folders_named(run.job.settings)))
        folders = [*found.folders, str(run.folder.absolute()), str(output.parent), str(caches), *models]
        return Prepared(
            settings=run.job.settings,
            inputs=found.inputs,
            outputs={
                "file": to_wire(str(output)),
                "run": to_wire(str(run.folder.absolute())),
                "cache": to_wire(str(caches)),
            },
            roots=list(dict.fromkeys(map(to_wire, folders))),
        )

    def take(self, run: Run, partial: Partial) -> None:
        """Keep measurements, and say of pictures that were left out. Raises KernelFault."""
        try:
            items = msgspec.convert(partial.items, list[TrainMetrics])
            failed = msgspec.convert(partial.failed, list[FailedImage])
        except msgspec.ValidationError:
            raise KernelFault("The kernel reported something that is no step of a training.") from None
        for item in items:
            run.metrics(item.step, measurements(item))
        for each in failed:
            where = shown(each.image, run.studio.roots, run.folder.absolute())
            run.log("warning", f"{where}: {each.error.message}")

    async def finish(self, run: Run, outcome: Any | None) -> Any:
        """The outcome without absolute paths; of a job that was canceled, what it had done until then."""
        await settle(run)
        # So that whoever follows the models hears of it.
        await run.studio.models.list()
        if outcome is None:
            return None
        return await to_thread.run_sync(kept_outcome, outcome, run.studio.roots, run.folder.absolute())


async def _source(run: Run, source: JobSource, settings: TrainSettings) -> _Source:
    if source.folders is None:
        pictures = await pictures_of(run, source, settings)
        found = _Source({"manifest": to_wire(str(pictures.manifest))}, [str(pictures.folder)])
    else:
        folders = [
            await to_thread.run_sync(folder_of, run.studio, each.root, each.path) for each in source.folders
        ]
        found = _Source({"folders": [to_wire(each) for each in folders]}, folders)
    if source.checkpoint is None:
        return found
    checkpoint = await checkpoint_of(run.studio, source.checkpoint)
    return _Source(found.inputs | {"checkpoint": checkpoint}, [*found.folders, from_wire(checkpoint)])


def _output(run: Run) -> Path:
    """Where the LoRA goes, in a folder that is there. What is there already, its own kernel knows."""
    assert run.job.output is not None
    path = run.studio.roots.resolve(MADE, run.job.output + SUFFIX, must_exist=False)
    _made(path.parent)
    return path


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise unwritten(error, folder) from error
    return folder.absolute()


def _folders_named(settings: dict[str, Any]) -> Iterator[str]:
    """The folders of the files that settings name."""
    for _, wire in paths_in(TrainSettings, settings):
        yield from folders_of_weights(wire)
