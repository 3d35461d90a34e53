"""Signs of a family in VAEs and text encoders that are files of their own.

Facts: configurations of the published models. Families share most of these, so that often several are left. A
language model says nothing: it may be any, and for anything.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from contract.rules.family_traits import Trait
from contract.rules.model_kinds import ModelKind
from contract.rules.model_modules import Shapes

_VAE_INPUTS: Final = (
    "decoder.conv_in.weight",
    "first_stage_model.decoder.conv_in.weight",
    "vae.decoder.conv_in.weight",
)
#: Channels of the latent → families whose VAE has so many.
_LATENTS: Final[Mapping[int, frozenset[str]]] = {
    4: frozenset({"sd15", "sd2", "sdxl", "sdxl_refiner"}),
    16: frozenset({"sd3", "flux1", "chroma", "lumina2", "z_image"}),
    32: frozenset({"flux2"}),
    64: frozenset({"hunyuan_image"}),
}
#: A name that only the VAE of Wan and Qwen-Image has.
_WAN: Final = "decoder.middle.0.residual.0.gamma"
_CLIP_TOKENS: Final = ("embeddings.token_embedding.weight", "token_embedding.weight")
_CLIPS: Final[Mapping[int, frozenset[str]]] = {
    768: frozenset({"sd15", "sdxl", "sd3", "flux1"}),
    1024: frozenset({"sd2"}),
    1280: frozenset({"sdxl", "sdxl_refiner", "sd3"}),
}
_T5: Final = "encoder.block.0.layer.0.SelfAttention.q.weight"
_T5_XXL: Final = 4096


def component_traits(kind: ModelKind | None, tensors: Shapes) -> list[Trait]:
    """The signs in a file of a component; none for other files."""
    look = _LOOKS.get(kind)
    return [] if look is None else list(look(tensors))


def _vae(tensors: Shapes) -> Iterator[Trait]:
    if _WAN in tensors:
        yield Trait(_WAN, "a layer of the VAE of Qwen-Image", frozenset({"qwen_image", "anima"}))
    for key in _VAE_INPUTS:
        shape = tensors.get(key, ())
        if len(shape) == 4 and shape[1] in _LATENTS:
            yield Trait(key, f"a latent of {shape[1]} channels", _LATENTS[shape[1]])


def _text_encoder(tensors: Shapes) -> Iterator[Trait]:
    for key, shape in tensors.items():
        if key.endswith(_CLIP_TOKENS) and len(shape) == 2 and shape[1] in _CLIPS:
            yield Trait(key, f"the words of a CLIP {shape[1]} wide", _CLIPS[shape[1]])
    shape = tensors.get(_T5, ())
    if len(shape) == 2 and shape[1] == _T5_XXL:
        yield Trait(_T5, f"a layer of a T5 {_T5_XXL} wide", frozenset({"sd3", "flux1", "chroma"}))


_LOOKS: Final[Mapping[ModelKind | None, Callable[[Shapes], Iterator[Trait]]]] = {
    "vae": _vae,
    "text_encoder": _text_encoder,
}
