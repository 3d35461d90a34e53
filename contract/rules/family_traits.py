"""Signs of a family in the shapes and the build of a model, where names alone are those of several.

Facts: configurations of the published models. Ratios between the sizes of a layer hold at every size; widths
are asked of layers that are as wide as published ones (`SMALL`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from contract.rules.block_numbers import is_number
from contract.rules.family_names import DEPTHS, NAMES, SMALL, UNETS, WIDTHS
from contract.rules.model_modules import Module


class Trait(NamedTuple):
    """A sign in a file: a key, what it says, and the families that it allows."""

    sign: str
    says: str
    allows: frozenset[str]


_Look = Callable[[Sequence[Module]], Iterator[Trait]]

_ALL: Final = frozenset(NAMES) | UNETS
_SD1: Final = frozenset({"sd15"})
_SD2: Final = frozenset({"sd2"})
_XL: Final = frozenset({"sdxl"})
_REFINER: Final = frozenset({"sdxl_refiner"})

#: How wide the text is that a U-Net attends to.
_CONTEXTS: Final = {768: _SD1, 1024: _SD2, 2048: _XL, 1280: _REFINER}
#: How wide the vector is that SDXL's are given beside the text.
_VECTORS: Final = {2816: _XL, 2560: _REFINER}
#: Channels of the input: a latent; with a depth map; with a picture; with a picture and a mask.
_CHANNELS: Final = frozenset({4, 5, 8, 9})
_VECTOR_NAMES: Final = ("label_emb_0_0", "add_embedding_linear_1")
#: Places of attention that only U-Nets with attention at full size have: SD1.5 and SD2.
_FULL_SIZE: Final = ("input_blocks_1_1_", "input_blocks_2_1_", "down_blocks_0_attentions_", "up_blocks_3_att")
#: Places of blocks that SDXL, with its three levels, does not have.
_FOURTH: Final = ("input_blocks_9_", "input_blocks_10_", "input_blocks_11_", "down_blocks_3_", "up_blocks_3_")


def unet_traits(unet: Sequence[Module], modules: Sequence[Module]) -> Iterator[Trait]:
    """The signs by which the four families with a U-Net are told apart."""
    for look in _UNET_LOOKS:
        yield from look(unet)
    for look in _PART_LOOKS:
        yield from look(modules)


def transformer_traits(named: Sequence[Module], modules: Sequence[Module]) -> Iterator[Trait]:
    """The signs by which families with a transformer are told apart where they share names."""
    for look in _TRANSFORMER_LOOKS:
        yield from look(named)
    for look in _PART_LOOKS:
        yield from look(modules)


def _context(unet: Sequence[Module]) -> Iterator[Trait]:
    seen: dict[int, Module] = {}
    for module in unet:
        if module.into is not None and module.name.endswith(("_attn2_to_k", "_attn2_to_v")):
            seen.setdefault(module.into, module)
    for width, module in seen.items():
        if width in _CONTEXTS:
            yield Trait(module.key, f"attention to text {width} wide", _CONTEXTS[width])
        elif width >= SMALL:
            yield Trait(module.key, f"attention to text {width} wide, which no known U-Net has", frozenset())


def _latent(unet: Sequence[Module]) -> Iterator[Trait]:
    for module in unet:
        if module.name in ("input_blocks_0_0", "conv_in") and module.into is not None and module.sizes:
            if module.into not in _CHANNELS:
                yield Trait(
                    module.key, f"an input of {module.into} channels, which no known U-Net has", frozenset()
                )


def _vector(unet: Sequence[Module]) -> Iterator[Trait]:
    for module in unet:
        if module.name in _VECTOR_NAMES and module.into is not None:
            allows = _VECTORS.get(module.into, _XL | _REFINER if module.into < SMALL else frozenset())
            yield Trait(module.key, f"a vector {module.into} wide beside the text", allows)


def _projection(unet: Sequence[Module]) -> Iterator[Trait]:
    for module in unet:
        if module.name.endswith(("_proj_in", "_proj_out")) and module.sizes in (2, 4):
            is_conv = module.sizes == 4
            says = "a 1 × 1 convolution" if is_conv else "a linear layer, no convolution,"
            yield Trait(module.key, f"{says} around attention", _SD1 if is_conv else UNETS - _SD1)
            return


def _depth(unet: Sequence[Module]) -> Iterator[Trait]:
    for module in unet:
        if "_transformer_blocks_" in module.name:
            layer = module.name.partition("_transformer_blocks_")[2].partition("_")[0]
            if is_number(layer) and int(layer) > 0:
                yield Trait(module.key, "several transformer layers in a row", _XL | _REFINER)
                return


def _levels(unet: Sequence[Module]) -> Iterator[Trait]:
    full = next((module for module in unet if module.name.startswith(_FULL_SIZE)), None)
    if full is not None:
        yield Trait(full.key, "attention at full size", _SD1 | _SD2)
    fourth = next((module for module in unet if module.name.startswith(_FOURTH)), None)
    if fourth is not None:
        yield Trait(fourth.key, "a fourth level", UNETS - _XL)


def _deepest(unet: Sequence[Module]) -> Iterator[Trait]:
    """SDXL attends at its deepest level, its refiner does not. Only whole U-Nets show where that is."""
    if not any(module.name in _VECTOR_NAMES for module in unet):
        return
    for beginning, resnet, attention in _LEVELS:
        inside = [m for m in unet if m.name.startswith(beginning) and resnet in m.name]
        if inside:
            last = max(inside, key=lambda module: module.number)
            here = f"{beginning}{last.number}{attention}"
            attends = any(module.name.startswith(here) for module in unet)
            says = f"at the deepest level, with{'' if attends else 'out'} attention"
            yield Trait(last.key, says, _XL if attends else UNETS - _XL)
            return


#: What blocks begin with, what their convolutions have in their name, and what their attention begins with.
_LEVELS: Final = (("input_blocks_", "_in_layers_2", "_1_"), ("down_blocks_", "_conv1", "_attentions_"))


def _kohya(unet: Sequence[Module]) -> Iterator[Trait]:
    """Kohya adapters have names of the original code for SDXL, and only for that."""
    for module in unet:
        if module.beginning == "lora_unet_" and module.name.startswith(("input_blocks_", "output_blocks_")):
            yield Trait(module.key, "the name of a block as SDXL adapters have it", _XL | _REFINER)
            return


_UNET_LOOKS: Final[tuple[_Look, ...]] = (
    _context,
    _latent,
    _vector,
    _projection,
    _depth,
    _levels,
    _deepest,
    _kohya,
)

#: Names of layers that have as many columns as the model is wide.
_WIDE: Final = (
    "_attn_qkv",
    "_attn_proj",
    "_attn2_qkv",
    "_attn_to_q",
    "_attn_to_k",
    "_attn_to_v",
    "_attn_to_out_0",
    "_add_q_proj",
    "_add_k_proj",
    "_add_v_proj",
    "_to_add_out",
    "_attention_qkv",
    "_attention_out",
    "_attention_to_q",
    "_attention_to_k",
    "_attention_to_v",
    "_attention_to_out_0",
    "_attn1_to_q",
    "_self_attn_q_proj",
    "_self_attn_k_proj",
    "_self_attn_v_proj",
    "_linear1",
    "_mlp_0",
    "_mlp_fc1",
    "_net_0_proj",
    "_feed_forward_w1",
    "_feed_forward_linear_1",
    "_mlp_layer1",
    "_ff_linear_in",
    "_ff_context_linear_in",
    "_to_qkv_mlp_proj",
)
_BLOCKS: Final = (
    "double_blocks_",
    "single_blocks_",
    "joint_blocks_",
    "transformer_blocks_",
    "single_transformer_blocks_",
    "layers_",
    "noise_refiner_",
    "context_refiner_",
    "blocks_",
)


def _width(named: Sequence[Module]) -> Iterator[Trait]:
    seen: dict[int, Module] = {}
    for module in named:
        if module.into is not None and module.name.startswith(_BLOCKS) and module.name.endswith(_WIDE):
            seen.setdefault(module.into, module)
    for width, module in seen.items():
        if width >= SMALL:
            allows = frozenset(family for family, widths in WIDTHS.items() if width in widths)
            yield Trait(module.key, f"a layer of a transformer {width} wide", allows)


def _count(named: Sequence[Module]) -> Iterator[Trait]:
    for beginning, depths in DEPTHS.items():
        blocks = [module for module in named if module.general.startswith(beginning)]
        if blocks:
            last = max(blocks, key=lambda module: module.number)
            allows = _ALL - {family for family, depth in depths.items() if last.number >= depth}
            if len(allows) < len(_ALL):
                yield Trait(last.key, f"block {last.number}, which others do not have", allows)


#: Name → rows a column (or columns a row) of a layer to the families that have it so.
_FLUX1_LIKE: Final = frozenset({"flux1", "chroma", "hunyuan_image"})
_FLUX2: Final = frozenset({"flux2"})
_RATIOS: Final[Mapping[str, Mapping[int, frozenset[str]]]] = {
    "single_blocks_#_linear1": {7: _FLUX1_LIKE, 9: _FLUX2},
    "double_blocks_#_img_mlp_0": {4: _FLUX1_LIKE, 6: _FLUX2},
    "double_blocks_#_txt_mlp_0": {4: _FLUX1_LIKE, 6: _FLUX2},
}
_INVERSE_RATIOS: Final[Mapping[str, Mapping[int, frozenset[str]]]] = {
    "single_blocks_#_linear2": {5: _FLUX1_LIKE, 4: _FLUX2},
    "double_blocks_#_img_mlp_2": {4: _FLUX1_LIKE, 3: _FLUX2},
    "double_blocks_#_txt_mlp_2": {4: _FLUX1_LIKE, 3: _FLUX2},
}


def _ratios(named: Sequence[Module]) -> Iterator[Trait]:
    seen: set[tuple[str, int]] = set()
    for module in named:
        found = _ratio(module)
        if found is not None and (found[0], found[1]) not in seen:
            seen.add((found[0], found[1]))
            yield Trait(module.key, f"a layer that widens {found[1]} times", found[2])


def _ratio(module: Module) -> tuple[str, int, frozenset[str]] | None:
    if module.out is None or module.into is None:
        return None
    table, larger, smaller = _RATIOS.get(module.general), module.out, module.into
    if table is None:
        table, larger, smaller = _INVERSE_RATIOS.get(module.general), module.into, module.out
    if table is None or smaller == 0 or larger % smaller:
        return None
    ratio = larger // smaller
    return None if ratio not in table else (module.general, ratio, table[ratio])


def _fused(named: Sequence[Module]) -> Iterator[Trait]:
    """Lumina 2 has fewer keys and values than queries, Z-Image as many."""
    for module in named:
        if module.general.endswith("_attention_qkv") and module.out is not None and module.into is not None:
            is_grouped = module.out < 3 * module.into
            says = "fewer keys and values than queries" if is_grouped else "as many keys as queries"
            yield Trait(module.key, says, frozenset({"lumina2" if is_grouped else "z_image"}))
            return


def _cosmos(named: Sequence[Module]) -> Iterator[Trait]:
    """Many transformers of diffusers have attn1 and attn2; Anima's is told by its modulation, or its text."""
    general = {module.general for module in named}
    if not general & _ANIMA_OR_MANY:
        return
    text = next((m for m in named if m.general in _ANIMA_TEXT and m.into is not None), None)
    if text is not None and text.into is not None and text.into >= SMALL:
        allows = frozenset({"anima"}) if text.into == 1024 else frozenset({"sd3"})
        yield Trait(text.key, f"attention to text {text.into} wide", allows)
    elif not general & _ANIMA_ONLY:
        first = next(m for m in named if m.general in _ANIMA_OR_MANY)
        yield Trait(first.key, "a name that many transformers have", _ALL - {"anima"})


_ANIMA_TEXT: Final = frozenset({"transformer_blocks_#_attn2_to_k", "transformer_blocks_#_attn2_to_v"})
_ANIMA_OR_MANY: Final = frozenset(
    {f"transformer_blocks_#_attn{number}_to_{part}" for number in (1, 2) for part in ("q", "k", "v", "out_0")}
)
_ANIMA_ONLY: Final = frozenset(
    {f"transformer_blocks_#_norm{norm}_linear_{number}" for norm in (1, 2, 3) for number in (1, 2)}
)

_TRANSFORMER_LOOKS: Final[tuple[_Look, ...]] = (_width, _count, _ratios, _fused, _cosmos)

_CLIPS: Final = frozenset({"sd15", "sd2", "sdxl", "sdxl_refiner", "sd3", "flux1"})
_T5S: Final = frozenset({"sd3", "flux1", "chroma"})
_DECODERS: Final = {2304: frozenset({"lumina2"}), 1024: frozenset({"anima"})}
_DECODER_FAMILIES: Final = frozenset({"lumina2", "anima"})
#: Parts of single files that only some families have.
_PARTS: Final[Mapping[str, tuple[str, frozenset[str]]]] = {
    "sd1_text": ("a CLIP where SD1.5 has it", _SD1),
    "sd2_text": ("an OpenCLIP where SD2 has it", _SD2),
    "xl_text_1": ("a CLIP where SDXL has it", _XL),
    "xl_text_2": ("an OpenCLIP where SDXL has it", _XL),
    "refiner_text": ("an OpenCLIP where the refiner has it", _REFINER),
    "clip_l": ("CLIP-L", frozenset({"sd15", "sdxl", "sd3", "flux1"})),
    "clip_g": ("CLIP bigG", frozenset({"sdxl", "sdxl_refiner", "sd3"})),
    "t5xxl": ("T5", _T5S),
    "gemma2_2b": ("Gemma 2", frozenset({"lumina2"})),
    "qwen3_06b": ("Qwen 3 0.6B", frozenset({"anima"})),
}


def _single_file(modules: Sequence[Module]) -> Iterator[Trait]:
    first: dict[str, Module] = {}
    for module in modules:
        first.setdefault(module.part, module)
    for part, module in first.items():
        if part in _PARTS:
            says, allows = _PARTS[part]
            yield Trait(module.key, f"a part of {says}", allows)


def _adapter_text(modules: Sequence[Module]) -> Iterator[Trait]:
    """Adapters of text encoders: which encoder it is, and which of the model's it is."""
    seen: set[tuple[str, str, int | None]] = set()
    for module in modules:
        encoder = _encoder(module)
        if encoder is None or (key := (module.part, encoder, _text_width(module))) in seen:
            continue
        seen.add(key)
        yield Trait(module.key, f"an adapter of {_ENCODERS[encoder]}", _encoder_allows(*key))


_ENCODERS: Final = {"clip": "CLIP", "t5": "T5", "decoder": "a language model"}


def _encoder(module: Module) -> str | None:
    if module.part not in ("te", "te1", "te2", "te3"):
        return None
    if module.name.startswith(("text_model_encoder_layers_", "encoder_layers_")):
        return "clip"
    if module.name.startswith("encoder_block_"):
        return "t5"
    return "decoder" if module.name.startswith(("layers_", "model_layers_")) else None


def _text_width(module: Module) -> int | None:
    return module.into if module.name.endswith(("_q_proj", "_fc1", "_k_proj", "_v_proj")) else None


def _encoder_allows(part: str, encoder: str, width: int | None) -> frozenset[str]:
    if encoder == "t5":
        return {"te2": frozenset({"flux1"}), "te1": frozenset({"chroma"})}.get(part, _T5S)
    if encoder == "decoder":
        return _DECODERS.get(width or 0, frozenset() if (width or 0) >= SMALL else _DECODER_FAMILIES)
    allows = _CLIP_PARTS.get(part, frozenset())
    return allows & _CLIP_WIDTHS.get(width or 0, _ALL)


_CLIP_PARTS: Final = {
    "te": frozenset({"sd15", "sd2", "sdxl_refiner"}),
    "te1": _CLIPS - _REFINER,
    "te2": frozenset({"sdxl", "sdxl_refiner", "sd3"}),
}
_CLIP_WIDTHS: Final = {
    768: frozenset({"sd15", "sdxl", "sd3", "flux1"}),
    1024: _SD2,
    1280: frozenset({"sdxl", "sdxl_refiner", "sd3"}),
}

_PART_LOOKS: Final[tuple[_Look, ...]] = (_single_file, _adapter_text)
