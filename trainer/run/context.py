"""All that the loop of a run works with; made once, before the first step."""

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from contract.methods.train import TrainSettings
from trainer.output import ModelFile, Moment, TrainingFacts, training_metadata
from trainer.run.encoded import Data
from trainer.run.hashed import Hashes
from trainer.run.learner import Learner
from trainer.run.occasions import Occasions
from trainer.run.outputs import Outputs
from trainer.run.peak import Peak
from trainer.run.preflight import Known
from trainer.run.record import RunFile
from trainer.run.request import Request
from trainer.run.samples import Sampler
from trainer.run.watcher import Watcher

#: The packages that the bits of a result depend on.
_PACKAGES: Final = ("lorakeet", "torch", "diffusers", "transformers", "safetensors", "pillow", "numpy")


class Context(NamedTuple):
    """`pictures` is a digest of what is trained on."""

    request: Request
    known: Known
    data: Data
    learner: Learner
    sampler: Sampler
    outputs: Outputs
    occasions: Occasions
    run: RunFile
    hashes: Hashes
    peak: Peak
    watcher: Watcher
    pictures: str

    @property
    def settings(self) -> TrainSettings:
        return self.request.settings

    def begin_hashing(self) -> None:
        """Begin with what the files of weights will say."""
        self.hashes.begin(self.request.model, self.request.vae, self.request.start_from)

    def metadata(
        self, step: int, waiting: Callable[[], None], *, stopped_after: int | None = None
    ) -> dict[str, str]:
        """What a file of weights says that is written after `step` steps: the last one of a run that was
        stopped after an epoch that it was. `waiting` is called now and then where a hash is not ready yet,
        and may raise. Raises FileUnreadable."""
        epoch = max(1, -(-step // self.occasions.per_epoch))
        moment = Moment(step=step, epoch=epoch, at=time.time())
        training = msgspec.structs.replace(self.settings.training, stop_after=stopped_after)
        settings = msgspec.structs.replace(self.settings, training=training)
        return training_metadata(self._facts(settings, waiting), moment)

    def _facts(self, settings: TrainSettings, waiting: Callable[[], None]) -> TrainingFacts:
        data, request, found = self.data, self.request, self.learner.base.recognised
        record = self.run.record
        base = self._file(request.model, waiting)
        assert base is not None
        return TrainingFacts(
            settings=settings,
            name=record.name,
            family=self.known.family.name,
            prediction=found.prediction,
            zero_snr=found.zero_snr,
            size=self.known.size,
            compute=self.learner.numbers.name,
            base=base,
            vae=self._file(request.vae, waiting),
            start_from=self._file(request.start_from, waiting),
            subsets=data.subsets,
            pictures=data.plan.pictures,
            plan=data.shown(self.settings),
            prompts=self.known.prompts,
            steps=data.total,
            epochs=-(-data.total // self.occasions.per_epoch),
            session=record.session,
            started_at=record.started_at,
            device=self.learner.numbers.device.type,
            versions=versions(),
            continued=record.changed or record.origin is not None,
        )

    def _file(self, path: str | None, waiting: Callable[[], None]) -> ModelFile | None:
        if path is None:
            return None
        found = self.hashes.of(path, waiting)
        name = os.path.basename(os.path.normpath(path))
        return ModelFile(name=name, sha256=found.sha256, old=found.old, is_folder=os.path.isdir(path))


def versions() -> dict[str, str]:
    """What the result of a training depends on beside its recipe."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
