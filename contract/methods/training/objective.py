"""`[objective]`: what is learned from a picture under noise, and which amounts of noise count."""

from typing import Annotated, Literal

from contract.base import Strict
from contract.fields import field
from contract.methods.training.loss import L2, Loss
from contract.validation import Contradiction

#: Timesteps of the noise schedule that the models were trained with.
TIMESTEPS = 1000


class Objective(Strict, frozen=True, kw_only=True):
    """What is learned from a picture under noise, and which amounts of noise count."""

    loss: Annotated[Loss, field("Loss", "How a difference counts.", detail="advanced")] = L2()
    weighting: Annotated[
        Literal["none", "min_snr", "debiased"],
        field(
            "Weighting",
            "How timesteps count against each other. `min_snr`: those of little noise no more than "
            "`min_snr_gamma` allows, so that the model learns evenly and faster. `debiased`: by one over the "
            "square root of the signal-to-noise ratio.",
            detail="advanced",
        ),
    ] = "min_snr"
    min_snr_gamma: Annotated[
        float,
        field(
            "Min-SNR γ",
            "The highest signal-to-noise ratio that counts in full; 5 is usual. Only of `min_snr`.",
            detail="advanced",
            gt=0,
            le=1000,
        ),
    ] = 5.0
    noise_offset: Annotated[
        float,
        field(
            "Noise offset",
            "Noise that shifts whole channels, so that pictures may become darker and brighter; 0.03 to 0.1 "
            "is usual.",
            detail="advanced",
            ge=0,
            le=1,
        ),
    ] = 0.0
    min_timestep: Annotated[
        int,
        field("Lowest timestep", "Less noise than here is not trained.", detail="expert", ge=0, lt=TIMESTEPS),
    ] = 0
    max_timestep: Annotated[
        int,
        field(
            "Highest timestep",
            "From here on noise is not trained.",
            detail="expert",
            ge=1,
            le=TIMESTEPS,
        ),
    ] = TIMESTEPS
    scale_v_loss: Annotated[
        bool,
        field(
            "Scale v like ε",
            "Weigh the loss of v-prediction as if noise were predicted. Only where the model predicts `v`.",
            detail="expert",
        ),
    ] = False

    def __post_init__(self) -> None:
        if self.min_timestep >= self.max_timestep:
            raise Contradiction(("min_timestep", f"must be below `max_timestep`, {self.max_timestep}"))
