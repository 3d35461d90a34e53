"""The numbers of a run: `metrics.jsonl` in its folder, and what they come to over an epoch."""

import os
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import BinaryIO, Final, Self

import msgspec

from contract.methods.train import TrainMetrics
from trainer.weights.replacing import replace
from trainer.weights.unfinished import unwritten

METRICS: Final = "metrics.jsonl"
#: Losses that an average is made of, at most.
_MOST: Final = 10_000


class LossAverage:
    """The mean of the losses of the last epoch's worth of steps."""

    def __init__(self, per_epoch: int, losses: Iterable[float] = ()) -> None:
        self._losses = deque(losses, maxlen=min(per_epoch, _MOST))

    def add(self, loss: float) -> None:
        """Take this one in, and let the oldest go where there are enough."""
        self._losses.append(loss)

    @property
    def mean(self) -> float:
        """NaN before the first step."""
        return sum(self._losses) / len(self._losses) if self._losses else float("nan")

    @property
    def losses(self) -> list[float]:
        """What it is made of, from the oldest on."""
        return list(self._losses)


class MetricsLog:
    """The file, open for more; a context manager. What a crash may cost is its last lines."""

    def __init__(self, folder: str, step: int) -> None:
        """Keep what stands there up to `step`, from which the run goes on. Raises DiskFull and
        FileUnwritable."""
        self._path = os.path.join(folder, METRICS)
        replace(self._path, b"".join(_until(self._path, step)))
        try:
            self._file: BinaryIO = open(self._path, "ab")
        except OSError as error:
            raise unwritten(error, self._path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What cannot be written any more has been told before, or is worth no error.
        with suppress(OSError):
            self._file.close()

    def add(self, item: TrainMetrics) -> None:
        """Raises DiskFull and FileUnwritable."""
        try:
            self._file.write(msgspec.json.encode(item) + b"\n")
            self._file.flush()
        except OSError as error:
            raise unwritten(error, self._path) from error


def _until(path: str, step: int) -> Iterable[bytes]:
    """The whole lines of steps that count."""
    try:
        with open(path, "rb") as file:
            lines = file.readlines()
    except OSError:
        return
    for line in lines:
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            if line.endswith(b"\n") and _metrics.decode(line).step <= step:
                yield line


_metrics: Final = msgspec.json.Decoder(TrainMetrics)
