"""When a run samples, saves and writes checkpoints: by its steps and epochs alone."""

from typing import NamedTuple

from contract.methods.train import TrainSettings


class Occasions(NamedTuple):
    """Steps are counted as done, from 1; an epoch has `per_epoch` of them, the run `total`."""

    settings: TrainSettings
    per_epoch: int
    total: int

    def epoch(self, step: int) -> int:
        """The epochs that are done after `step` steps."""
        return step // self.per_epoch

    def ends_epoch(self, step: int) -> bool:
        """Whether a step is the last one of its epoch."""
        return step % self.per_epoch == 0

    def samples(self, step: int) -> bool:
        """Whether pictures are made after it; `step` 0 is before the first."""
        chosen = self.settings.sampling
        if not (chosen.prompts or chosen.file):
            return False
        return chosen.at_start if step == 0 else self._is_due(step, chosen.every_steps, chosen.every_epochs)

    def saves_step(self, step: int) -> bool:
        """Whether a file of weights is made that is named by its step."""
        every = self.settings.saving.every_steps
        return step < self.total and every > 0 and step % every == 0

    def saves_epoch(self, step: int) -> bool:
        """Whether one is made that is named by its epoch. The last epoch's is that of the run."""
        return step < self.total and self._is_due(step, 0, self.settings.saving.every_epochs)

    def keeps(self, step: int) -> bool:
        """Whether a checkpoint is due, whatever the clock says."""
        chosen = self.settings.checkpoints
        return self._is_due(step, chosen.every_steps, chosen.every_epochs)

    def _is_due(self, step: int, every_steps: int, every_epochs: int) -> bool:
        if every_steps and step % every_steps == 0:
            return True
        return every_epochs > 0 and self.ends_epoch(step) and self.epoch(step) % every_epochs == 0


def steps_of(settings: TrainSettings, per_epoch: int) -> int:
    """The steps of the whole run."""
    training = settings.training
    return training.steps or (training.epochs or 0) * per_epoch
