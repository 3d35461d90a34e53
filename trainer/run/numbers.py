"""Where a run computes, and in which types of numbers."""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import torch

from contract.methods.train import TrainSettings
from contract.methods.training.precision import Precision

DTYPES: Final[Mapping[str, torch.dtype]] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
NAMES: Final[Mapping[torch.dtype, Literal["fp32", "fp16", "bf16"]]] = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
}


class Numbers(NamedTuple):
    """`compute` is what the frozen model has and computes in, `vae` what the VAE does, `cached` what latents
    and embeddings are kept in. What is trained is always in float32."""

    device: torch.device
    compute: torch.dtype
    vae: torch.dtype
    cached: torch.dtype

    @property
    def name(self) -> Literal["fp32", "fp16", "bf16"]:
        """Of what is computed in."""
        return NAMES[self.compute]

    @property
    def is_exact(self) -> bool:
        """Whether what is in a batch with it may change a result in its last bits; so it is on a CPU, where
        runs are repeated to the bit."""
        return self.device.type == "cpu"


def numbers_of(settings: TrainSettings) -> Numbers:
    """On the GPU that this process was given, else on the CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    compute = _compute(settings.precision, device)
    half = compute != torch.float32
    vae = settings.precision.vae
    cached = settings.caching.dtype
    return Numbers(
        device,
        compute,
        (torch.bfloat16 if compute == torch.bfloat16 else torch.float32) if vae == "auto" else DTYPES[vae],
        (torch.float16 if half else torch.float32) if cached == "auto" else DTYPES[cached],
    )


def _compute(precision: Precision, device: torch.device) -> torch.dtype:
    if precision.compute != "auto":
        return DTYPES[precision.compute]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
