"""SD1.5, SD2, SDXL and its refiner: what their single files contain, and what their modules are called.

Facts: prefixes of the published single files; kohya names as sd-scripts writes them, generic ones as ComfyUI
reads them (`diffusion_model.` and `text_encoders.` before its own names of the weights). sd-scripts knows no
refiner; its text encoder has the names that ComfyUI reads for it.
"""

from collections.abc import Iterator
from typing import Final

from trainer.weights.names.clip import open_clip, penultimate_open_clip, transformers_clip
from trainer.weights.names.component import Source, denoiser, text_encoder
from trainer.weights.names.family import Family, under
from trainer.weights.names.published_text import (
    CLIP_G,
    CLIP_H,
    CLIP_L,
    open_clip_weights,
    transformers_clip_weights,
)
from trainer.weights.names.published_unet import SD2, SD15, SDXL, SDXL_REFINER, UNet, unet_weights
from trainer.weights.names.site import Shape
from trainer.weights.names.unet import as_diffusers, as_original

Published = Iterator[tuple[str, Shape]]

_SD1_TEXT: Final = Source("cond_stage_model.transformer.", transformers_clip)
_SD2_TEXT: Final = Source("cond_stage_model.model.", penultimate_open_clip)
_XL_TEXT_1: Final = Source("conditioner.embedders.0.transformer.", transformers_clip)
_XL_TEXT_2: Final = Source("conditioner.embedders.1.model.", open_clip)
_REFINER_TEXT: Final = Source("conditioner.embedders.0.model.", open_clip)


def _unet(model: UNet) -> Published:
    return under("model.diffusion_model.", unet_weights(model))


def _sd15() -> Published:
    yield from _unet(SD15)
    yield from under(_SD1_TEXT.prefix, transformers_clip_weights(CLIP_L))


def _sd2() -> Published:
    yield from _unet(SD2)
    yield from under(_SD2_TEXT.prefix, open_clip_weights(CLIP_H))


def _sdxl() -> Published:
    yield from _unet(SDXL)
    yield from under(_XL_TEXT_1.prefix, transformers_clip_weights(CLIP_L))
    yield from under(_XL_TEXT_2.prefix, open_clip_weights(CLIP_G))


def _sdxl_refiner() -> Published:
    yield from _unet(SDXL_REFINER)
    yield from under(_REFINER_TEXT.prefix, open_clip_weights(CLIP_G))


SD15_NAMES: Final = Family(
    id="sd15",
    components=(
        denoiser(as_diffusers("sd15"), peft="unet"),
        text_encoder(
            "te1",
            called="clip_l",
            peft="text_encoder",
            layout=transformers_clip,
            others=(_SD1_TEXT,),
            kohya="lora_te_",
        ),
    ),
    published={"1.5": _sd15},
)
SD2_NAMES: Final = Family(
    id="sd2",
    components=(
        denoiser(as_diffusers("sd2"), peft="unet"),
        text_encoder(
            "te1",
            called="clip_h",
            peft="text_encoder",
            layout=transformers_clip,
            others=(_SD2_TEXT,),
            kohya="lora_te_",
        ),
    ),
    published={"2.1": _sd2},
)
SDXL_NAMES: Final = Family(
    id="sdxl",
    components=(
        denoiser(as_original("sdxl"), peft="unet"),
        text_encoder(
            "te1", called="clip_l", peft="text_encoder", layout=transformers_clip, others=(_XL_TEXT_1,)
        ),
        text_encoder(
            "te2", called="clip_g", peft="text_encoder_2", layout=transformers_clip, others=(_XL_TEXT_2,)
        ),
    ),
    published={"1.0": _sdxl},
)
SDXL_REFINER_NAMES: Final = Family(
    id="sdxl_refiner",
    components=(
        denoiser(as_original("sdxl_refiner"), peft="unet"),
        text_encoder(
            "te2",
            called="clip_g",
            peft="text_encoder_2",
            layout=transformers_clip,
            others=(_REFINER_TEXT,),
            kohya="lora_te_",
        ),
    ),
    published={"1.0": _sdxl_refiner},
)
