"""What ComfyUI reads of an adapter.

It lists the weights of the model that is loaded and writes down under which names each may be patched; keys
of the file under other names are left aside, with a line in its log for each and no other sign. Its names for
a family are therefore those of its own modules, which are those of the original code, in kohya's and in the
generic naming, and for most families those of diffusers too.

Established by reading its key map (`comfy/lora.py`, `comfy/lora_convert.py`, `comfy/utils.py` and
`comfy/weight_adapter`, as of 2026); no line of it is here.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

from trainer.weights.consumers import forms
from trainer.weights.consumers.forms import Form, Forms, pair
from trainer.weights.consumers.reading import (
    Case,
    Program,
    Reading,
    by_names,
    encoder,
    in_diffusers,
    in_encoder,
    joined,
    original,
)
from trainer.weights.names import Site

#: The names under which a site of the denoiser is patched.
Names = Callable[[Site], Iterator[str]]
#: Encoder, as `reading.encoder` gives it, to what its modules begin with: in kohya's naming, and with dots.
Encoders = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]

FORMS: Final = Forms(
    (
        (
            forms.KOHYA_PAIR,
            *forms.DIFFUSERS_PAIRS,
            pair(".lora_B", ".lora_A"),
            pair(".lora_B.default.weight", ".lora_A.default.weight"),
        ),
        (Form((".reshape_weight",)),),
        (forms.LOHA,),
        (forms.LOHA_TUCKER,),
        (forms.LOKR,),
        (forms.GLORA,),
        (Form((".oft_blocks",), (), (".rescale",)),),
        (forms.NORM,),
        (forms.FULL,),
        (forms.FULL_BIAS,),
        (forms.SET,),
    )
)

_CLIP_L: Final[Encoders] = {"clip_l": (("lora_te_", "lora_te1_"), ("text_encoder.",))}
_CLIP_H: Final[Encoders] = {"clip_h": (("lora_te_", "lora_te1_"), ("text_encoder.",))}
_CLIP_G: Final[Encoders] = {"clip_g": (("lora_te2_",), ("text_encoder_2.",))}
ENCODERS: Final[dict[str, Encoders]] = {
    "sd15": _CLIP_L,
    "sd2": _CLIP_H,
    "sdxl": _CLIP_L | _CLIP_G,
    "sdxl_refiner": {"clip_g": (("lora_te_", "lora_prior_te_"), ("text_encoder.",))},
    "sd3": _CLIP_L | _CLIP_G | {"t5xxl": (("lora_te3_",), ())},
    "flux1": _CLIP_L | {"t5xxl": (("lora_te2_", "lora_te3_"), ())},
    "chroma": {"t5xxl": (("lora_te1_",), ())},
    "lumina2": {"gemma2_2b": (("lora_te_",), ())},
    "anima": {"qwen3_06b": (("lora_te_",), ())},
}
_CLIP_KINDS: Final = ("attention", "feed_forward")


def own(site: Site) -> Iterator[str]:
    """Its own modules, in kohya's naming and in the generic one, for every family."""
    if (name := original(site)) is not None:
        yield f"lora_unet_{joined(name)}"
        yield f"diffusion_model.{name}"


def unet(site: Site) -> Iterator[str]:
    """U-Nets in the names of diffusers: joined, or with dots as its attention processors were called. The
    dotted names that peft writes for the attention are not among them."""
    if (name := in_diffusers(site)) is None:
        return
    yield f"lora_unet_{joined(name)}"
    yield f"lycoris_{joined(name)}"
    processor = name.replace(".to_", ".processor.to_")
    if processor.endswith(".to_out.0"):
        processor = processor.removesuffix(".0")
    yield processor
    yield f"unet.{processor}"


def prefixed(*prefixes: str, known: re.Pattern[str] | None = None) -> Names:
    """The names of diffusers with these beginnings; those that end in an underscore are joined."""

    def names(site: Site) -> Iterator[str]:
        name = in_diffusers(site)
        if name is None or (known is not None and known.fullmatch(name) is None):
            return
        for prefix in prefixes:
            yield prefix + (joined(name) if prefix.endswith("_") else name)

    return names


#: The modules of FLUX for which it knows the names of diffusers.
FLUX_NAMES: Final = re.compile(
    r"transformer_blocks\.\d+\.(attn\.(to_[qkv]|add_[qkv]_proj|to_out\.0|to_add_out|norm_(added_)?[qk])"
    r"|norm1(_context)?\.linear|ff(_context)?\.(net\.0\.proj|net\.2|linear_in|linear_out))"
    r"|single_transformer_blocks\.\d+\.(attn\.(to_[qkv]|norm_[qk]|to_qkv_mlp_proj|to_out)|proj_mlp"
    r"|norm\.linear|proj_out)"
    r"|proj_out|x_embedder|context_embedder|norm_out\.linear"
    r"|time_text_embed\.(timestep|text|guidance)_embedder\.linear_[12]"
)


def flux_rows(site: Site) -> Iterator[str]:
    """A name of its own for the first three quarters of a fused weight of FLUX."""
    name = original(site)
    if name is not None and name.endswith(".linear1"):
        yield f"diffusion_model.{name}_qkv"


_Z_PREFIXES: Final = ("diffusion_model.", "transformer.", "lycoris_", "")
_Z_ENDINGS: Final = (
    ("attention.qkv", ("attention.to_q", "attention.to_k", "attention.to_v")),
    ("attention.out", ("attention.to_out.0",)),
    ("attention.q_norm", ("attention.norm_q",)),
    ("attention.k_norm", ("attention.norm_k",)),
)
_Z_ENDS: Final = {
    "final_layer.linear": "all_final_layer.2-1.linear",
    "final_layer.adaLN_modulation.1": "all_final_layer.2-1.adaLN_modulation.1",
    "x_embedder": "all_x_embedder.2-1",
}
_Z_SAME: Final = re.compile(
    r"(layers|noise_refiner|context_refiner)\.\d+\.(attention_norm[12]|ffn_norm[12]|feed_forward\.w[123]"
    r"|adaLN_modulation\.0)|cap_embedder\.[01]|t_embedder\.mlp\.[02]"
)


def z_image(site: Site) -> Iterator[str]:
    """The names that diffusers has for Z-Image. ComfyUI has one model for it and Lumina 2, so it takes them
    for both, and none of those that diffusers has for Lumina 2."""
    if (name := original(site)) is None:
        return
    for other in _z_names(name):
        for prefix in _Z_PREFIXES:
            yield prefix + (joined(other) if prefix.endswith("_") else other)


def _z_names(name: str) -> tuple[str, ...]:
    for ending, others in _Z_ENDINGS:
        if name.endswith(f".{ending}"):
            return tuple(name.removesuffix(ending) + other for other in others)
    if name in _Z_ENDS:
        return (_Z_ENDS[name],)
    return (name,) if _Z_SAME.fullmatch(name) else ()


def text_encoders(encoders: Encoders, *, generic: bool = True) -> Names:
    """The modules of text encoders: of CLIP those that LoRAs train, of others all."""

    def names(site: Site) -> Iterator[str]:
        which, name = encoder(site), in_encoder(site)
        if which is None or name is None:
            return
        if generic and site.generic is not None:
            yield site.generic
        if which.startswith("clip_") and site.kind not in _CLIP_KINDS:
            return
        kohya, dotted = encoders.get(which, ((), ()))
        yield from (prefix + joined(name) for prefix in kohya)
        yield from (prefix + name for prefix in dotted)

    return names


_UNET: Final = (own, unet)
_FLUX: Final = (
    own,
    flux_rows,
    prefixed("transformer.", "lycoris_", "lora_transformer_", "", known=FLUX_NAMES),
)
_DENOISERS: Final[dict[str, tuple[Names, ...]]] = {
    "sd15": _UNET,
    "sd2": _UNET,
    "sdxl": _UNET,
    "sdxl_refiner": _UNET,
    "sd3": (own, prefixed("transformer.", "base_model.model.", "lora_transformer_", "lycoris_")),
    "flux1": _FLUX,
    "flux2": _FLUX,
    "chroma": _FLUX,
    "lumina2": (own, z_image),
    "z_image": (own, z_image),
    "qwen_image": (own, prefixed("", "transformer.", "lycoris_")),
    "anima": (own,),
    "hunyuan_image": (own,),
}


def known_names(case: Case, names: tuple[Names, ...]) -> set[str]:
    """Every module name that fits the model."""
    return {name for site in case.sites.all for each in names for name in each(site)}


def _read(case: Case) -> Reading:
    names = (*_DENOISERS[case.family], text_encoders(ENCODERS.get(case.family, {})))
    return Reading(by_names(case.groups, known_names(case, names), FORMS))


COMFYUI: Final = Program(
    name="ComfyUI",
    rules=dict.fromkeys(_DENOISERS, _read),
    others="Which names it knows for this family has not been established.",
)
