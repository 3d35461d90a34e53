"""The record of a run in its folder: what it was begun with, and what it has made."""

import os
import time
from typing import Any

import msgspec

from contract.errors import FileUnreadable, WeightsDamaged
from contract.methods.train import TrainSettings
from contract.methods.training.run_record import RUN_RECORD, RunRecord, decode_run, encode_run
from contract.rules.paths import to_wire
from trainer.run.request import Request
from trainer.run.same import check_same
from trainer.weights.replacing import replace


def record_of(request: Request) -> RunRecord:
    """That of the run so far, with the settings that hold from now on; or a new one, not written yet.

    Raises InvalidParams where the settings are those of another run, and FileUnreadable.
    """
    before = _read(request.folder)
    if before is None:
        origin = None if request.checkpoint is None else to_wire(request.checkpoint)
        return _new(request, origin)
    check_same(before.settings, request.settings)
    return msgspec.structs.replace(
        before,
        settings=request.settings,
        name=_name(request),
        output=to_wire(request.output),
        finished=False,
        changed=before.changed or _is_changed(before.settings, request.settings),
    )


class RunFile:
    """The record of a run, and its file in the run's folder."""

    def __init__(self, folder: str, record: RunRecord) -> None:
        self.record = record
        self._path = os.path.join(folder, RUN_RECORD)

    def change(self, **fields: Any) -> None:
        """Change some fields, and bring all of it to the disk. Raises DiskFull and FileUnwritable."""
        self.record = msgspec.structs.replace(self.record, **fields)
        replace(self._path, encode_run(self.record))

    def forget_file(self, named: str) -> None:
        """A file of weights is gone for good: what comes there is not the run's own. The next change of the
        record brings it to the disk."""
        files = [each for each in self.record.files if each != named]
        self.record = msgspec.structs.replace(self.record, files=files)


def has_record(folder: str) -> bool:
    """Whether a run has begun in the folder."""
    return os.path.lexists(os.path.join(folder, RUN_RECORD))


def check_origin(request: Request) -> None:
    """See that the checkpoint that was asked for is one of a run like this; it may come without a record.

    Raises InvalidParams, and FileUnreadable and WeightsDamaged where that record cannot be read.
    """
    if request.checkpoint is not None:
        other = _read(os.path.dirname(os.path.dirname(os.path.abspath(request.checkpoint))))
        if other is not None:
            check_same(other.settings, request.settings)


def _is_changed(before: TrainSettings, now: TrainSettings) -> bool:
    """Whether the result may be another than that of a run that had the new settings from the start: by
    another length, which the rates follow from."""
    pairs = [(each.training.epochs, each.training.steps) for each in (before, now)]
    return pairs[0] != pairs[1]


def _new(request: Request, origin: str | None) -> RunRecord:
    now = time.time()
    return RunRecord(
        name=_name(request),
        settings=request.settings,
        started_at=now,
        # As the reference trainer, whose number is a random one; programs only compare it.
        session=int.from_bytes(os.urandom(4), "big"),
        output=to_wire(request.output),
        origin=origin,
    )


def _name(request: Request) -> str:
    return os.path.splitext(os.path.basename(request.output))[0]


def _read(folder: str) -> RunRecord | None:
    path = os.path.join(folder, RUN_RECORD)
    where = to_wire(path)
    try:
        with open(path, "rb") as file:
            return decode_run(file.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileUnreadable(f"`{where}` cannot be read.", where=where) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise WeightsDamaged(
            f"`{where}` is damaged, or of a newer version.", where=where, hint="Begin a new run."
        ) from None
