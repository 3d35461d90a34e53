"""A training and where it takes place: which run goes on, which files and folders a kernel has to see."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from contract.errors import OutputExists, SettingsInvalid
from contract.methods.train import TrainSettings
from contract.methods.train_file import TrainFile
from contract.rules.paths import from_wire, to_wire
from orchestrator.cli import runs
from orchestrator.cli.runs import Chosen, Wanted
from orchestrator.cli.training_file import source_of
from orchestrator.cli.weights import SUFFIX, folder_of
from orchestrator.files.durable import unwritten
from orchestrator.jobs.settings_tree import paths_in
from orchestrator.models.layouts import MADE

_CACHES: Final = "caches"


class Work(NamedTuple):
    """What is to be done. `again` is the command that goes on with it after an end before its time, and
    `was_asked` says whether somebody wanted a run to go on, or it just may."""

    wanted: Wanted
    chosen: Chosen
    cache: Path
    overwrite: bool
    again: str
    was_asked: bool

    def params(self, job_id: str) -> dict[str, Any]:
        """The request."""
        inputs: dict[str, Any] = {"folders": self.wanted.folders}
        if self.chosen.checkpoint is not None:
            inputs["checkpoint"] = to_wire(str(self.chosen.checkpoint))
        outputs = {
            "file": self.wanted.output,
            "run": to_wire(str(self.chosen.folder)),
            "cache": to_wire(str(self.cache)),
            "overwrite": self.overwrite,
        }
        whole = {"job_id": job_id, "v": 2, "settings": self.wanted.settings}
        return whole | {"inputs": inputs, "outputs": outputs}

    def roots(self) -> Iterator[str]:
        """Where everything really lies."""
        for _, path in paths_in(TrainSettings, msgspec.to_builtins(self.wanted.settings)):
            yield folder_of(path)
            yield from _inside(from_wire(path))
        for folder in self.wanted.folders:
            yield os.path.realpath(from_wire(folder))
            # Whoever runs the command may read what the links in there lead to.
            yield from _inside(from_wire(folder))
        yield folder_of(self.wanted.output)
        yield from (os.path.realpath(path) for path in (self.chosen.folder, self.cache))
        if self.chosen.checkpoint is not None:
            # Its run says what it was made with.
            yield os.path.realpath(self.chosen.checkpoint.parent.parent)

    def make_folders(self) -> None:
        """Raises FileUnwritable and DiskFull."""
        for folder in (self.chosen.folder, self.cache, Path(from_wire(self.wanted.output)).parent):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise unwritten(error, folder) from None

    @property
    def home(self) -> Path:
        """The data directory."""
        return self.cache.parent

    @property
    def checkpoint_at(self) -> int | None:
        """The step of the newest checkpoint of the run."""
        return runs.step_of(runs.newest_checkpoint(self.chosen.folder))


def work_for(arguments: argparse.Namespace, home: Path, training: TrainFile) -> Work:
    """What the flags come to, with runs, caches and outputs in `home`.

    Raises SettingsInvalid, FileMissing, NotFound and OutputExists.
    """
    wanted = _wanted(home, training)
    chosen = _chosen(arguments, home, wanted)
    overwrite = training.output is not None and training.output.overwrite
    if not overwrite and not chosen.resumes:
        _check_free(home, wanted)
    again = "The same command"
    if arguments.restart or arguments.resume:
        again += f" without {'--restart' if arguments.restart else '--resume'}"
    return Work(wanted, chosen, home / _CACHES, overwrite, again, arguments.resume is not None)


def plan_for(home: Path, training: TrainFile) -> Work:
    """What only looks at the pictures: no run, no output, and nothing but the caches is written in `home`.

    Raises SettingsInvalid.
    """
    wanted, cache = _wanted(home, training), home / _CACHES
    nowhere = to_wire(str(cache / (wanted.name + SUFFIX)))
    return Work(wanted._replace(output=nowhere), Chosen(cache), cache, False, "The same command", False)


def _wanted(home: Path, training: TrainFile) -> Wanted:
    assert training.output is not None
    source, target = source_of(training), training.output
    if source.dataset is not None:
        raise SettingsInvalid(
            f"source.dataset: `{source.dataset}` is a dataset, and only the studio knows what is in it.",
            where="source.dataset",
            hint="Let the studio do it with --queue, or name its folder with --folder DIR.",
        )
    folder = to_wire(str(home / MADE)) if target.folder is None else target.folder
    file = to_wire(os.path.join(from_wire(folder), target.name + SUFFIX))
    return Wanted(target.name, training.settings, source.folders, file)


def _chosen(arguments: argparse.Namespace, home: Path, wanted: Wanted) -> Chosen:
    if arguments.resume:
        return runs.begun_at(home, wanted.name, os.path.abspath(os.path.expanduser(arguments.resume)))
    if arguments.resume is not None:
        return runs.resumed(home, wanted.name)
    going_on = None if arguments.restart else runs.going_on(home, wanted)
    return going_on or runs.anew(home, wanted.name)


def _check_free(home: Path, wanted: Wanted) -> None:
    if os.path.lexists(from_wire(wanted.output)):
        raise OutputExists(
            f"{wanted.output} is there already.", where=wanted.output, hint=hint_for_taken(home, wanted.name)
        )


def hint_for_taken(home: Path, name: str) -> str:
    """What to do where a file is in the way of the output of that name."""
    hint = "Choose another --name, or replace it with --overwrite."
    newest = runs.newest_of(home, name)
    if newest is not None and (step := runs.step_of(runs.newest_checkpoint(newest.folder))) is not None:
        hint += f" With --resume the run {to_wire(str(newest.folder))} goes on from step {step}."
    return hint


def _inside(path: str) -> Iterator[str]:
    """Where the files in a folder really lie: those of a model in the hub's cache are links, and pictures may
    lie on another disk."""
    for folder, _, names in os.walk(path):
        yield from {
            os.path.dirname(os.path.realpath(linked))
            for name in names
            if os.path.islink(linked := os.path.join(folder, name))
        }
