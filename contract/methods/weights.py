"""What the methods of LoRA and checkpoint surgery share: files of weights in and out, types and names."""

from typing import Annotated, Final, Literal

from msgspec import Meta

from contract.base import Strict
from contract.fields import field

#: Where the metadata of an output have what it was made with: the settings of a merge, or the recipe of a
#: training, which says so in its `kind`.
RECIPE_KEY: Final = "lorakeet_recipe"
#: What numbers are written as; `keep` is what the input has.
AdapterDtype = Literal["keep", "fp32", "fp16", "bf16"]
#: The same for checkpoints; fp8 is float8_e4m3fn, as inference programs load it.
CheckpointDtype = Literal["keep", "fp32", "fp16", "bf16", "fp8_e4m3fn", "fp8_e5m2"]
#: How the modules of an adapter are named; `keep` is as in the input.
Naming = Literal["keep", "kohya", "peft", "generic"]
#: How the alpha of a module follows from its rank; ΔW is the same whichever it is.
AlphaRule = Literal["even", "proportional", "rank", "one"]

#: SHA-256 as lower-case hex.
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Rank = Annotated[int, Meta(ge=1, le=4096)]
Weight = Annotated[float, Meta(ge=-100, le=100)]


class WeightsFile(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """A safetensors file: its absolute path and, where it must be that very file, its SHA-256."""

    path: Annotated[str, field("File", "Absolute path of a safetensors file.")]
    sha256: (
        Annotated[Sha256, field("SHA-256", "Lower-case hex; another file is refused.", detail="advanced")]
        | None
    ) = None


class FileInput(Strict, frozen=True, kw_only=True):
    """The one file a job works on: an absolute path under the roots."""

    file: str


class NoInput(Strict, frozen=True, kw_only=True):
    """Nothing: all files are named in the settings."""


class FileOutput(Strict, frozen=True, kw_only=True):
    """The file a job makes: an absolute path under the roots, ending in `.safetensors`.

    A file that is there already is refused unless `overwrite`, and an input of the job always is.
    """

    file: str
    overwrite: bool = False


def dtype_field(title: str = "Type of the numbers") -> Meta:
    """The annotation of an adapter's output type."""
    return field(title, "What the numbers are written as; `keep` is as in the input.")


def naming_field() -> Meta:
    """The annotation of an adapter's output naming."""
    return field(
        "Naming",
        "`kohya` (lora_unet_…), `peft` (transformer.… .lora_A) or `generic` (diffusion_model.… .lora_A); "
        "`keep` is as in the input.",
        detail="advanced",
    )


def alpha_field() -> Meta:
    """The annotation of the alpha rule."""
    return field(
        "Alpha",
        "`even` gives all modules one alpha, which every program reads right; `proportional` keeps "
        "alpha ÷ rank, `rank` makes alpha the rank, `one` makes it 1. The LoRA is the same with each.",
        detail="advanced",
    )
