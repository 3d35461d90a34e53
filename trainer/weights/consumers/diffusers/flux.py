"""What diffusers loads of an adapter of FLUX.1 or Chroma.

Its loader decides by the first sign that it finds anywhere in the file. Kohya's reader is complete for the
blocks; for the layers before and after them it makes names without `transformer.`, which are then dropped
without a word. It takes `diffusion_model.` names for kohya's, but only where the pairs are called
`lora_down` and `lora_up`; as `lora_A` and `lora_B`, which is how they are written, it loads none of them.
"""

import re
from collections.abc import Mapping
from typing import Final

from trainer.weights.consumers.diffusers.own import (
    ALPHA,
    DOWN,
    NO_GENERIC,
    NOTHING,
    UP,
    all_say,
    cleaned,
    in_own_names,
    noted,
    scaled,
)
from trainer.weights.consumers.forms import Refused
from trainer.weights.consumers.groups import Group
from trainer.weights.consumers.reading import Case, Reading, in_encoder, joined, original
from trainer.weights.names import Sites

_COMPONENTS: Final = {"unet": ("transformer.",), "te1": ("text_encoder.",)}
_BLOCKS: Final = re.compile(
    r"double_blocks\.\d+\.(img|txt)_(attn\.(proj|qkv)|mlp\.[02]|mod\.lin)"
    r"|single_blocks\.\d+\.(linear[12]|modulation\.lin)"
)
_AROUND: Final = re.compile(
    r"img_in|txt_in|(guidance_in|time_in|vector_in)\.(in|out)_layer|final_layer\.(linear|adaLN_modulation\.1)"
)
_LOST: Final = "Layers around the blocks are dropped without a word: {lost} of its modules."
_OTHER_SCALE: Final = (
    "Of `transformer.` modules that are written as `lora_down` it does not read `.alpha`: the scale is off."
)
_NOT_ESTABLISHED: Final = (
    "It has a reader for the files of another trainer; what that reads was not established."
)


def flux(case: Case) -> Reading:
    """The rule. Raises Refused."""
    groups, dora = cleaned(case)
    endings = {part for group in groups for part in group.parts}
    if DOWN in endings:
        reading = _kohya(groups, case.sites)
    elif any(_other_trainer(group.name) for group in groups):
        reading = Reading(set(), _NOT_ESTABLISHED)
    else:
        reading = _own(groups, case.sites, case.alphas)
    return noted(reading.used, dora, reading.note)


def _other_trainer(name: str) -> bool:
    return "processor" in name or "query_norm.scale" in name or "base_model" in name


def _own(groups: list[Group], sites: Sites, alphas: Mapping[str, float]) -> Reading:
    """Its own names, with alphas."""
    rest = [group for group in groups if any(part != ALPHA for part in group.parts)]
    if not any("lora" in key for group in rest for key in group.parts.values()):
        all_say(rest, "lora")
    used = in_own_names(groups, sites, _COMPONENTS)
    names = {site.peft: site for site in sites.all if site.peft is not None}
    modules = [(group, names[group.name]) for group in groups if used & set(group.parts.values())]
    scales, note = scaled(modules, alphas, lambda site: site.component == "unet")
    if not used and any(group.name.startswith("diffusion_model.") for group in groups):
        return Reading(used, NO_GENERIC)
    return noted(used | scales, note, None if used else NOTHING)


def _kohya(groups: list[Group], sites: Sites) -> Reading:
    """The reader of kohya's files, which others with `lora_down` in them reach as well."""
    if any(group.name.startswith("transformer.") for group in groups):
        return _renamed(groups, sites)
    if any(group.name.startswith("lora_transformer_") for group in groups):
        return Reading(set(), _NOT_ESTABLISHED)
    blocks, around, encoder = _names(sites)
    used: set[str] = set()
    lost = 0
    for group in groups:
        name = _as_kohya(group.name)
        if name in encoder:
            used |= _encoder_pair(group)
        elif name in around:
            lost += 1
        elif name in blocks:
            used |= _whole_pair(group)
        elif name.startswith("lora_unet_") and not _dropped(group):
            raise Refused(f"It fails at `{group.name}`, which it does not know.")
    return noted(used, _LOST.format(lost=lost) if lost else None, None if used else NOTHING)


def _renamed(groups: list[Group], sites: Sites) -> Reading:
    """`transformer.` names with `lora_down`: the pairs are renamed, all other keys of the file dropped."""
    names = {site.peft for site in sites.all}
    modules = [group for group in groups if group.name in names and group.name.startswith("transformer.")]
    used = {key for group in modules for key in group.keys((DOWN, UP))}
    return noted(used, _OTHER_SCALE if any(ALPHA in group.parts for group in modules) else None)


def _names(sites: Sites) -> tuple[set[str], set[str], set[str]]:
    """Names of the blocks, of the layers around them, and of the first text encoder."""
    blocks, around = set(), set()
    for site in sites.all:
        if (name := original(site)) is not None:
            if _BLOCKS.fullmatch(name):
                blocks.add(f"lora_unet_{joined(name)}")
            elif _AROUND.fullmatch(name):
                around.add(f"lora_unet_{joined(name)}")
    encoder = {
        prefix + joined(name)
        for site in sites.all
        if site.component == "te1" and (name := in_encoder(site)) is not None and ".layers." in name
        for prefix in ("lora_te_", "lora_te1_")
    }
    return blocks, around, encoder


def _as_kohya(name: str) -> str:
    for dotted, kohya in (
        ("diffusion_model.", "lora_unet_"),
        ("text_encoders.clip_l.transformer.", "lora_te_"),
    ):
        if name.startswith(dotted):
            return kohya + joined(name[len(dotted) :])
    return name


def _dropped(group: Group) -> bool:
    """Modules that have nothing but what it takes away first."""
    return set(group.parts) <= {".diff_b"}


def _whole_pair(group: Group) -> set[str]:
    """The keys of a plain pair. Raises Refused for others, of which something would be left over."""
    left = [key for part, key in group.parts.items() if part not in (DOWN, UP, ALPHA, ".diff_b")]
    if left or not {DOWN, UP} <= set(group.parts):
        raise Refused(
            f"It fails at keys other than of whole plain LoRAs, such as `{(left or [_any(group)])[0]}`."
        )
    return group.keys((DOWN, UP, ALPHA))


def _encoder_pair(group: Group) -> set[str]:
    """The keys of a plain pair; others are left over, which for text encoders is no error. Raises Refused for
    half a pair."""
    if DOWN in group.parts and UP not in group.parts:
        raise Refused(f"It fails at `{group.name}`, which has no `lora_up.weight`.")
    return group.keys((DOWN, UP, ALPHA)) if DOWN in group.parts else set()


def _any(group: Group) -> str:
    return next(iter(group.parts.values()))
