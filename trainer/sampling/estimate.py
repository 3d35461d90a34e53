"""From what a model says of x = a·x₀ + b·ε to the picture x₀ and the noise ε that it so says x has."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import torch

from trainer.sampling.grid import Share

#: A model of noise cannot say what the picture is where there is none; this little is taken to be there.
#: √(2⁻²⁴): as diffusers has it in its schedulers, for betas that were rescaled to zero terminal SNR.
_LEAST: Final = 2.0**-12


class Estimate(NamedTuple):
    """Both in the shape of x."""

    clean: torch.Tensor
    noise: torch.Tensor


def _epsilon(x: torch.Tensor, said: torch.Tensor, share: Share) -> Estimate:
    """Ho and others, arXiv 2006.11239, equation 15."""
    return Estimate((x - share.b * said) / max(share.a, _LEAST), said)


def _velocity(x: torch.Tensor, said: torch.Tensor, share: Share) -> Estimate:
    """v = a·ε − b·x₀: Salimans and Ho, arXiv 2202.00512, appendix D."""
    return Estimate(share.a * x - share.b * said, share.b * x + share.a * said)


def _flow(x: torch.Tensor, said: torch.Tensor, share: Share) -> Estimate:
    """u = ε − x₀, where a + b = 1: Liu and others, arXiv 2209.03003."""
    return Estimate(x - share.b * said, x + share.a * said)


#: By what the model predicts, the names being those of families.
ESTIMATES: Final[Mapping[str, Callable[[torch.Tensor, torch.Tensor, Share], Estimate]]] = {
    "epsilon": _epsilon,
    "v": _velocity,
    "flow": _flow,
}
