"""Which family a model is of, by its headers; others are refused here, before anything is loaded."""

from collections.abc import Mapping, Sequence
from typing import Final

from contract.errors import WeightsError, WeightsMismatch, WeightsUnknown, WeightsUnsupported
from contract.rules.families import TITLES, Found, detect
from trainer.weights.tensor_file import TensorFile

#: How the keys of quantised files end whose numbers mean nothing without a scale beside them.
_SCALES: Final = (".scale_weight", ".weight_scale", "scaled_fp8")
#: Keys of the first layer, and the channels of a latent alone.
_INPUTS: Final = ("model.diffusion_model.input_blocks.0.0.weight", "conv_in.weight")
_KINDS: Final[Mapping[str | None, str]] = {
    "lora": "a LoRA",
    "vae": "a VAE",
    "text_encoder": "a text encoder",
    "embedding": "an embedding",
    "controlnet": "a ControlNet",
    "upscaler": "an upscaler",
}


def found_in(files: Sequence[TensorFile], where: str) -> Found:
    """What the files of a model together are. Raises WeightsMismatch where they are no model, WeightsUnknown
    where they are of no family, WeightsUnsupported where their numbers are scaled."""
    shapes = {key: facts.shape for file in files for key, facts in file.header.tensors.items()}
    metadata = files[0].header.metadata if len(files) == 1 else {}
    found = detect(shapes, metadata)
    if found.kind in _KINDS:
        raise WeightsMismatch(
            f"`{where}` is {_KINDS[found.kind]}, no model to train on.",
            where=where,
            hint="Choose a checkpoint, or a folder of diffusers.",
        )
    if found.family is None:
        raise WeightsUnknown(f"`{where}` is of no family that is known. {found.reason}", where=where)
    for key in shapes:
        if key.endswith(_SCALES):
            raise WeightsUnsupported(
                f"`{where}` has numbers in fp8 with scales beside them, as `{key}`.",
                where=where,
                hint="Take the fp16 version of the model.",
                details={"key": key},
            )
    return found


def expect_family(found: Found, family: str, where: str) -> None:
    """Raises WeightsMismatch where a model is of another family than is wanted."""
    if found.family != family:
        assert found.family is not None
        signs = "; ".join(f"`{sign}` is {says}" for sign, says in found.evidence[:2])
        raise WeightsMismatch(
            f"`{where}` is a model of {TITLES[found.family]}, not of {TITLES[family]}: {signs}.",
            where=where,
            details={"family": found.family, "expected": family},
        )


def expect_latents(files: Sequence[TensorFile], channels: int, where: str) -> None:
    """Raises WeightsUnsupported for models that take a mask or another picture beside the latent."""
    for file in files:
        for key in _INPUTS:
            shape = file.header.tensors[key].shape if key in file.header.tensors else (0, channels)
            if len(shape) == 4 and shape[1] != channels:
                raise WeightsUnsupported(
                    f"`{where}` takes {shape[1]} channels, {channels} of them a latent: it is for inpainting "
                    "or the like, which cannot be trained here.",
                    where=where,
                    details={"key": key},
                )


def check_vae(files: Sequence[TensorFile], family: str, where: str) -> None:
    """Raises WeightsMismatch where a file is no VAE, or that of another family."""
    found = detect({key: facts.shape for file in files for key, facts in file.header.tensors.items()}, {})
    if found.kind != "vae":
        raise WeightsMismatch(f"`{where}` is no VAE.", where=where)
    if family not in found.candidates:
        raise _other_vae(found, family, where)


def _other_vae(found: Found, family: str, where: str) -> WeightsError:
    theirs = (
        ", ".join(title for each, title in TITLES.items() if each in found.candidates) or "no known family"
    )
    return WeightsMismatch(
        f"`{where}` is a VAE of {theirs}; {TITLES[family]} has another.",
        where=where,
        details={"family": list(found.candidates), "expected": family},
    )
