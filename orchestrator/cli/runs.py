"""The runs of a data directory, `runs/NAME`, `runs/NAME-2` and so on: in which of them a training goes on."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from contract.errors import FileMissing, NotFound, StateConflict
from contract.methods.job import ManifestItem
from contract.methods.train import TrainSettings
from contract.methods.training.run_record import RUN_RECORD, RunRecord, decode_run
from contract.rules.paths import from_wire, is_under, to_wire

#: Of a data directory.
RUNS: Final = "runs"
#: Of a run's folder.
CHECKPOINTS: Final = "checkpoints"
PICTURES: Final = "pictures.jsonl"
#: Of a checkpoint's folder, written last.
_MANIFEST: Final = "manifest.json"
_STEP: Final = re.compile(r"(\d+)-step-(\d+)")


class Wanted(NamedTuple):
    """What is to be trained: under which `name`, on the pictures of which `folders`, into which `output`."""

    name: str
    settings: TrainSettings
    folders: list[str]
    output: str


class Chosen(NamedTuple):
    """Where to train. `resumes` is a run that goes on; a new one may begin at a `checkpoint` of another.
    `at` is the step it goes on from, where there is one."""

    folder: Path
    resumes: bool = False
    checkpoint: Path | None = None
    at: int | None = None


class Run(NamedTuple):
    """A run that has begun."""

    folder: Path
    record: RunRecord


def anew(home: Path, name: str) -> Chosen:
    """The next run of that name."""
    for number in range(1, len(_taken(home, name)) + 2):
        folder = home / RUNS / (name if number == 1 else f"{name}-{number}")
        # A run that was refused has left a folder, and nothing that it would be missed for.
        if not (folder / RUN_RECORD).exists():
            return Chosen(folder)
    raise AssertionError("there is always one more number")


def going_on(home: Path, wanted: Wanted) -> Chosen | None:
    """The newest run of that name, if it has not ended and is of the same settings, pictures and output."""
    newest = newest_of(home, wanted.name)
    if newest is None or newest.record.finished or not _is_same(newest, wanted):
        return None
    return Chosen(newest.folder, True, at=step_of(newest_checkpoint(newest.folder)))


def resumed(home: Path, name: str) -> Chosen:
    """The newest run of that name at its newest checkpoint. Raises NotFound."""
    newest = newest_of(home, name)
    checkpoint = None if newest is None else newest_checkpoint(newest.folder)
    if newest is None or checkpoint is None:
        folder = to_wire(str(home / RUNS / name if newest is None else newest.folder))
        raise NotFound(
            f"There is no checkpoint of a run `{name}` to go on from.",
            where=folder,
            hint="Leave --resume out, or name a checkpoint.",
        )
    return Chosen(newest.folder, True, at=step_of(checkpoint))


def begun_at(home: Path, name: str, named: str) -> Chosen:
    """A new run that begins at a checkpoint, or at the newest one of a run. Raises FileMissing."""
    folder = Path(named)
    for checkpoint in (folder, folder.parent, newest_checkpoint(folder)):
        if checkpoint is not None and (checkpoint / _MANIFEST).is_file():
            return anew(home, name)._replace(checkpoint=checkpoint, at=step_of(checkpoint))
    raise FileMissing(
        f"There is no checkpoint in {to_wire(named)}.",
        where=to_wire(named),
        hint=f"A checkpoint is a folder with a {_MANIFEST}; they lie in the `{CHECKPOINTS}` of a run.",
    )


def newest_of(home: Path, name: str) -> Run | None:
    """The newest run of that name. Raises StateConflict where it is of a newer version."""
    for folder in reversed(_taken(home, name)):
        record = _record(folder)
        # `NAME-2` may be what another one is called.
        if record is not None and record.name == name:
            return Run(folder, record)
    return None


def newest_checkpoint(run: Path) -> Path | None:
    """Of a run; whether it is whole is seen when it is read."""
    found = [path for path in _folders(run / CHECKPOINTS) if (path / _MANIFEST).is_file() and _ages(path)]
    return max(found, key=_ages, default=None)


def step_of(checkpoint: Path | None) -> int | None:
    """The step at which a checkpoint was written."""
    return None if checkpoint is None or not (ages := _ages(checkpoint)) else ages[1]


def _ages(checkpoint: Path) -> tuple[int, ...]:
    match = _STEP.fullmatch(checkpoint.name)
    return () if match is None else (int(match[1]), int(match[2]))


def _taken(home: Path, name: str) -> list[Path]:
    """The folders of runs of that name, from the oldest on."""
    numbered = re.compile(re.escape(name) + r"(?:-([1-9]\d{0,8}))?")
    found = [
        (int(match[1] or 1), path)
        for path in _folders(home / RUNS)
        if (match := numbered.fullmatch(path.name))
    ]
    return [path for _, path in sorted(found)]


def _folders(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from (path for path in folder.iterdir() if path.is_dir())


def _record(folder: Path) -> RunRecord | None:
    path = folder / RUN_RECORD
    with suppress(OSError):
        try:
            return decode_run(path.read_bytes())
        except (msgspec.DecodeError, UnicodeDecodeError):
            named = to_wire(str(path))
            raise StateConflict(
                f"{named} is damaged, or of a newer version.", where=named, hint="--restart begins a new run."
            ) from None
    return None


def _is_same(run: Run, wanted: Wanted) -> bool:
    record = run.record
    same = record.name == wanted.name and record.output == wanted.output
    return same and record.settings == wanted.settings and _is_of(run.folder, wanted.folders)


def _is_of(run: Path, folders: list[str]) -> bool:
    """Whether the pictures of a run are those of `folders`; it has none before it has looked."""
    try:
        lines = (run / PICTURES).read_bytes().splitlines()
        paths = [from_wire(msgspec.json.decode(line, type=ManifestItem).path) for line in lines]
    except FileNotFoundError:
        return True
    except (OSError, msgspec.DecodeError):
        return False
    real = [str(Path(from_wire(folder)).resolve()) for folder in folders]
    used = {next((each for each in real if is_under(path, each)), None) for path in paths}
    return used == set(real)
