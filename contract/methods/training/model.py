"""`[model]`: what is trained upon."""

from typing import Annotated, Literal

from contract.base import Strict
from contract.fields import field
from contract.methods.weights import WeightsFile
from contract.validation import Contradiction

#: Families that can be trained.
TrainFamily = Literal["sd15", "sdxl"]


class TrainModel(Strict, frozen=True, kw_only=True):
    """The model that the network is trained for, and what its files do not say of it."""

    base: Annotated[
        WeightsFile,
        field("Model", "A checkpoint in one safetensors file, or a folder in the layout of diffusers."),
    ]
    vae: (
        Annotated[
            WeightsFile,
            field("VAE", "Takes the place of the model's own VAE.", detail="advanced"),
        ]
        | None
    ) = None
    family: (
        Annotated[
            TrainFamily,
            field(
                "Family",
                "What the model must be, or the job is refused; left out, what its keys and shapes say.",
                detail="advanced",
            ),
        ]
        | None
    ) = None
    prediction: Annotated[
        Literal["auto", "epsilon", "v"],
        field(
            "Prediction",
            "What the model predicts: the noise (`epsilon`) or the velocity (`v`). `auto`: what its file "
            "says, else `epsilon`.",
            detail="advanced",
        ),
    ] = "auto"
    zero_terminal_snr: Annotated[
        Literal["auto", "on", "off"],
        field(
            "Zero terminal SNR",
            "Whether the last timestep is noise alone, as models with v-prediction may need it. `auto`: what "
            "the file says, else `off`.",
            detail="advanced",
        ),
    ] = "auto"
    clip_skip: (
        Annotated[
            int,
            field(
                "CLIP skip",
                "Which layer of the text encoder is used, counted from the end; 1 is the last. Left out: 1 "
                "for SD1.5, and 2 for SDXL, which was trained with it.",
                unit="layers",
                detail="advanced",
                ge=1,
                le=12,
            ),
        ]
        | None
    ) = None

    def __post_init__(self) -> None:
        problems = []
        if self.zero_terminal_snr == "on" and self.prediction == "epsilon":
            problems.append(
                (
                    "zero_terminal_snr",
                    "a model that predicts `epsilon` learns nothing from noise alone; needs `v`",
                )
            )
        if self.family == "sdxl" and self.clip_skip not in (None, 2):
            problems.append(("clip_skip", "an `sdxl` model is always used with 2; leave it out"))
        if problems:
            raise Contradiction(*problems)
