"""The pictures that a run makes of its prompts, with what it has learned so far."""

import os
from collections.abc import Callable, Sequence
from typing import Final

import torch

from trainer.objective.process import Diffusion
from trainer.optimizers import evaluated
from trainer.run.encoded import Data
from trainer.run.learner import Learner
from trainer.run.parts import Parts
from trainer.run.preflight import Known
from trainer.sampling.of_family import painter_of
from trainer.sampling.painter import Conditions, Painter
from trainer.sampling.process import Process
from trainer.sampling.prompts import Prompt
from trainer.sampling.run import Sample, make_samples

#: The folder in the run's.
SAMPLES: Final = "samples"


class Sampler:
    """Makes a picture for each prompt at any moment of a run, which goes on as if it had made none."""

    def __init__(self, folder: str, known: Known, data: Data, parts: Parts, learner: Learner) -> None:
        """`folder` is the run's."""
        self._folder = os.path.join(folder, SAMPLES)
        self._known = known
        self._data = data
        self._parts = parts
        self._learner = learner

    def make(self, step: int, checked: Callable[[], None], told: Callable[[Sample], None]) -> None:
        """After `step` steps. `checked` may raise at every step of a sampler; `told` is called with each.

        Raises what `make_samples` raises.
        """
        learner = self._learner
        # The VAE may have been let go of, or never loaded.
        learner.loaded.vae = self._parts.vae().vae
        painter = self._painter()
        learner.network.eval()
        try:
            with evaluated(learner.optimizer):
                make_samples(painter, self._known.prompts, self._folder, step, checked=checked, told=told)
        finally:
            learner.network.train()
            if not self._data.needs_vae:
                # Training has more use for its memory; it is read again in a moment.
                learner.loaded.unload("vae")
                self._parts.release("vae")

    def _painter(self) -> Painter:
        settings, numbers, base = self._learner.settings, self._learner.numbers, self._parts.base
        process = self._learner.objective.process
        schedule = process.schedule.alphas_cumprod if isinstance(process, Diffusion) else None
        painter = painter_of(
            self._learner.loaded,
            self._known.family,
            Process(base.prediction, schedule),
            dtype=numbers.compute,
            device=numbers.device,
            max_tokens=settings.data.captions.max_tokens,
            clip_skip=settings.model.clip_skip,
        )
        return painter if self._data.texts is None else painter._replace(encode=self._cached)

    def _cached(self, texts: Sequence[str], prompt: Prompt) -> Conditions:
        assert self._data.texts is not None
        cache, keys = self._data.texts
        return _stacked([cache.read(keys.of(text)) for text in texts], self._learner.numbers.compute)


def _stacked(each: Sequence[dict[str, torch.Tensor]], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {name: torch.stack([one[name] for one in each]).to(dtype) for name in each[0]}
