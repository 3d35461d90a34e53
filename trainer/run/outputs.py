"""The files of weights that a run makes: named, written in the form that programs read, and counted."""

import os
import re
from contextlib import suppress
from typing import Final

from contract.methods.train import SavedFile, TrainSettings
from contract.rules.paths import from_wire, to_wire
from trainer.networks import Network, write_adapter
from trainer.run.occasions import Occasions
from trainer.run.preflight import SUFFIX, check_free
from trainer.run.record import RunFile
from trainer.weights.tensor_writer import Written
from trainer.weights.unfinished import Unfinished

#: As the reference trainer names them, so that tools that sort by it go on.
_EPOCH: Final = "{}-{:06d}"
_STEP: Final = "{}-step{:08d}"
_ON_THE_WAY: Final = re.compile(r"-(step\d{8,}|\d{6,})\.safetensors")


class Outputs:
    """The files of weights of one run. `saved` are those on the way that are there, from the oldest on."""

    def __init__(self, output: str, run: RunFile, *, overwrite: bool) -> None:
        self.output = output
        self.saved: list[SavedFile] = []
        self._run = run
        self._overwrite = overwrite
        self._stem = output[: -len(SUFFIX)]

    def check(self) -> None:
        """Raises OutputExists where the last file would be written over one that is not the run's own, and
        DiskFull and FileUnwritable where nothing can be written beside it."""
        if not self._overwrite:
            check_free(self.output, self._run.record.files)
        Unfinished(self.output).discard()

    def check_on_the_way(self, occasions: Occasions) -> None:
        """Raises OutputExists where a file on the way would be written over one that is not the run's own."""
        if self._overwrite:
            return
        folder, stem = os.path.split(self._stem)
        for name in sorted(os.listdir(folder)):
            rest = name.removeprefix(stem)
            if rest != name and _ON_THE_WAY.fullmatch(rest) and _is_coming(rest, occasions):
                check_free(os.path.join(folder, name), self._run.record.files)

    def of_epoch(self, epoch: int) -> str:
        """The path of the file that is made after so many epochs."""
        return _EPOCH.format(self._stem, epoch) + SUFFIX

    def of_step(self, step: int) -> str:
        """The path of the file that is made after so many steps."""
        return _STEP.format(self._stem, step) + SUFFIX

    def write(self, path: str, network: Network, settings: TrainSettings, said: dict[str, str]) -> Written:
        """Write the network as it is, with the metadata `said`.

        Raises OutputExists, DiskFull, FileUnwritable, WeightsUnsupported.
        """
        if not self._overwrite:
            check_free(path, self._run.record.files)
        self._claim(path)
        return write_adapter(
            network, path, said, dtype=settings.saving.dtype, naming=settings.saving.naming, overwrite=True
        )

    def keep(self, saved: SavedFile, keep_last: int) -> None:
        """Count a file on the way; older ones go where only the last are kept, 0 being all."""
        self.saved = [each for each in self.saved if each.file != saved.file] + [saved]
        while keep_last and len(self.saved) > keep_last:
            named = self.saved.pop(0).file
            with suppress(OSError):
                os.unlink(from_wire(named))
            if not os.path.lexists(from_wire(named)):
                self._run.forget_file(named)

    def _claim(self, path: str) -> None:
        """Note that the file is the run's own before it is there: after a crash it is written again."""
        named = to_wire(path)
        if named not in self._run.record.files:
            self._run.change(files=[*self._run.record.files, named])


def _is_coming(rest: str, occasions: Occasions) -> bool:
    """Whether a file whose name ends like this is made on the way."""
    number = int(re.findall(r"\d+", rest)[0])
    if rest.startswith("-step"):
        return occasions.saves_step(number)
    return occasions.saves_epoch(number * occasions.per_epoch)
