"""What the files of a training say of themselves: kohya's `ss_*`, `modelspec.*`, and our own recipe."""

from trainer.output.facts import ModelFile, Moment, TrainingFacts
from trainer.output.metadata import training_metadata

__all__ = ["ModelFile", "Moment", "TrainingFacts", "training_metadata"]
