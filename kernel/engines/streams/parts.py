"""What the tensors of a single-file checkpoint are, by their names: its parts, EMA weights, spellings."""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

#: `rest`: tables and settings beside the networks (`betas`, `v_pred`), which no merge computes with.
PartName = Literal["unet", "text_encoders", "vae", "ema", "rest"]

UNET: Final = "model.diffusion_model."
EMA: Final = "model_ema."
#: What U-Net weights begin with when they are not their averages: names of those lack it and all dots.
_AVERAGED: Final = "model."
#: Settings of the averaging, beside the averages.
_EMA_SETTINGS: Final = frozenset((f"{EMA}decay", f"{EMA}num_updates"))

_PREFIXES: Final[tuple[tuple[str, PartName], ...]] = (
    (UNET, "unet"),
    ("net.", "unet"),
    ("cond_stage_model.", "text_encoders"),
    ("conditioner.", "text_encoders"),
    ("text_encoders.", "text_encoders"),
    ("first_stage_model.", "vae"),
    ("vae.", "vae"),
    (EMA, "ema"),
)
#: Files that are one part as a whole, whatever their names begin with.
_KINDS: Final[Mapping[str, PartName]] = {
    "diffusion_model": "unet",
    "text_encoder": "text_encoders",
    "vae": "vae",
}

#: Early SD1.5 files leave out a level of the text encoder's names; all programs read both spellings.
_LEVEL: Final = "cond_stage_model.transformer."
_SPELLINGS: Final = {
    f"{_LEVEL}{child}.": f"{_LEVEL}text_model.{child}."
    for child in ("embeddings", "encoder", "final_layer_norm")
}
#: How the names of the tables end that number the places of a text.
_PLACES: Final = ".position_ids"

#: Names of numbers by which quantised weights must be multiplied, and of what else quantisers write.
_QUANTISED: Final = (
    ".scale_weight",
    ".weight_scale",
    ".scale_input",
    ".comfy_quant",
    ".absmax",
    ".quant_map",
    "scaled_fp8",
)


def part_of(name: str, kind: str = "checkpoint") -> PartName:
    """The part that a tensor belongs to, in a file of that kind."""
    for prefix, part in _PREFIXES:
        if name.startswith(prefix):
            return part
    return _KINDS.get(kind, "rest")


def ema_name(name: str) -> str:
    """The name of the average of a U-Net weight, as the training code of LDM writes it."""
    return EMA + name.removeprefix(_AVERAGED).replace(".", "")


def is_ema_setting(name: str) -> bool:
    """Whether it is a setting of the averaging, no average."""
    return name in _EMA_SETTINGS


def is_table(name: str, kind: str = "checkpoint") -> bool:
    """Whether it is a table or setting beside the weights, which is copied and never computed with.

    Programs that halve every tensor make floats of the places of a text encoder, too; they stay a table.
    """
    return part_of(name, kind) == "rest" or is_ema_setting(name) or name.endswith(_PLACES)


def spelled(name: str) -> str:
    """`name` in the spelling of today."""
    for old, new in _SPELLINGS.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def quantised(names: Iterable[str]) -> str | None:
    """A tensor that shows that others cannot be used without it; None where there is none."""
    return next((name for name in names if name.endswith(_QUANTISED) or ".quant_state." in name), None)
