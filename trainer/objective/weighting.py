"""How much the loss of a picture counts, by how noisy it was."""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import torch

from contract.errors import InvalidParams
from trainer.objective.prediction import Prediction

#: SNRs above it count as this one: the first timesteps of some schedules have none that is finite. The
#: number is the reference trainer's.
MOST_SNR: Final = 1000.0


class Weighting(Protocol):
    """A weight for each picture of a batch."""

    def weights(self, snr: torch.Tensor) -> torch.Tensor:
        """Float64 [b], from the signal-to-noise ratios a²/b², float64 [b]."""


class Even:
    """1: every timestep counts the same (Ho and others, arXiv 2006.11239, equation 14)."""

    def weights(self, snr: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(snr)


class MinSnr:
    """min(SNR, γ) on the error of the picture: min(SNR, γ) / SNR for ε, min(SNR, γ) / (SNR + 1) for v.

    Source: Hang and others, "Efficient Diffusion Training via Min-SNR Weighting Strategy", ICCV 2023,
    arXiv 2303.09556. For flows the same follows from Prediction.gain.
    """

    def __init__(self, prediction: Prediction, gamma: float = 5.0) -> None:
        self.prediction = prediction
        self.gamma = gamma

    def weights(self, snr: torch.Tensor) -> torch.Tensor:
        return snr.clamp(max=self.gamma) / self.prediction.gain(snr)


class Debiased:
    """1 / √SNR for ε, 1 / (SNR + 1) for v, where SNR is at most 1000.

    Source: Yu and others, "Unmasking Bias in Diffusion Model Training", arXiv 2310.08442; for v
    and the limit `debiased_estimation_loss` of the reference trainer. Raises InvalidParams for flows, for
    which neither defines it.
    """

    def __init__(self, prediction: Prediction, where: str | None = None) -> None:
        if prediction.name not in _DEBIASED:
            raise InvalidParams(f"Debiased weights are not defined for `{prediction.name}`.", where=where)
        self._formula = _DEBIASED[prediction.name]

    def weights(self, snr: torch.Tensor) -> torch.Tensor:
        return self._formula(snr.clamp(max=MOST_SNR))


class LikeEpsilon:
    """The weights of another, times SNR / (SNR + 1), where SNR is at most 1000: the loss of v as if ε were
    predicted, which follows from Prediction.gain of the two.

    Source: `scale_v_pred_loss_like_noise_pred` of the reference trainer.
    """

    def __init__(self, inner: Weighting) -> None:
        self.inner = inner

    def weights(self, snr: torch.Tensor) -> torch.Tensor:
        bounded = snr.clamp(max=MOST_SNR)
        return self.inner.weights(snr) * (bounded / (bounded + 1))


_DEBIASED: Final[Mapping[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "epsilon": lambda snr: snr.rsqrt(),
    "v": lambda snr: 1 / (snr + 1),
}
