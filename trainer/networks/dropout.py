"""Dropout whose masks follow from the seed, the step and the module alone.

A resumed run has the masks of the one that never stopped, and a forward that is repeated for its gradients
(checkpointing) those of the first time.
"""

import torch

from trainer.networks.seeds import seed_of


class Moment:
    """Where the training is, for all modules of a network; and their sources of random numbers."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.step = 0
        self.part = 0
        self._sources: dict[torch.device, torch.Generator] = {}

    def source(self, device: torch.device, purpose: str, name: str) -> torch.Generator:
        """The numbers of one purpose in one module at this moment; drawn before it is asked for again."""
        source = self._sources.get(device)
        if source is None:
            source = self._sources[device] = torch.Generator(device)
        return source.manual_seed(seed_of(self.seed, purpose, self.step, self.part, name))


class Dropout:
    """The dropouts of one module: `share` of the numbers, `ranks` of the ranks of each sample."""

    def __init__(self, name: str, moment: Moment, *, share: float, ranks: float) -> None:
        self._name = name
        self._moment = moment
        self._share = share
        self._ranks = ranks

    def __call__(self, inner: torch.Tensor, rank_at: int) -> torch.Tensor:
        """`inner` (b, …, r) or (b, r, h, w) with what is left made larger, so that its mean stays; `rank_at`
        is the dimension of the ranks."""
        if self._share:
            inner = self._masked(inner, inner.shape, "dropout", self._share)
        if self._ranks:
            shape = [1] * inner.dim()
            shape[0], shape[rank_at] = inner.shape[0], inner.shape[rank_at]
            inner = self._masked(inner, torch.Size(shape), "rank_dropout", self._ranks)
        return inner

    def _masked(self, inner: torch.Tensor, shape: torch.Size, purpose: str, share: float) -> torch.Tensor:
        source = self._moment.source(inner.device, purpose, self._name)
        drawn = torch.rand(shape, generator=source, device=inner.device)
        return inner * ((drawn >= share).to(inner.dtype) / (1.0 - share))
