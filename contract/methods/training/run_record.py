"""`run.json` in the folder of a run: what is being trained there, and whether it came to its end."""

from typing import Final

import msgspec

from contract.base import Reply
from contract.methods.train import TrainSettings

#: The name of the file.
RUN_RECORD: Final = "run.json"
#: Another number from the day on which older versions could not read it.
RUN_FORMAT: Final = 1


class RunRecord(Reply, kw_only=True):
    """Written before the first step and once more at the end. Paths are absolute.

    `name` is that of the output, without its ending; `started_at` seconds since 1970, and `session` a number
    that every file of weights of the run says. `output` is the file that the run makes, and `files` are
    those of weights that it has begun to write: it may write these again. `origin` is the checkpoint of
    another run that it goes on from. `changed` tells that it went on with settings that it did not begin
    with, so that its recipe alone does not give the same again. `stop_after` is the epoch after which it was
    told to end; None again once it has.
    """

    format: int = RUN_FORMAT
    name: str
    settings: TrainSettings
    started_at: float
    session: int
    output: str
    origin: str | None = None
    files: list[str] = []
    changed: bool = False
    stop_after: int | None = None
    finished: bool = False


def decode_run(raw: bytes) -> RunRecord:
    """The record in a file. Raises msgspec.DecodeError where it is none that this version can read."""
    found = msgspec.json.decode(raw, type=RunRecord)
    if found.format > RUN_FORMAT:
        raise msgspec.ValidationError("it was written by a newer version of Lorakeet")
    return found


def encode_run(record: RunRecord) -> bytes:
    """The file."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"
