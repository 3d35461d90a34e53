"""What diffusers loads of an adapter of SD3, FLUX.2, Lumina 2, Anima, Qwen-Image or Z-Image."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from trainer.weights.consumers.diffusers.own import (
    ALPHA,
    DOWN,
    NO_GENERIC,
    NO_KOHYA,
    NOTHING,
    PAIR,
    UP,
    all_say,
    cleaned,
    in_own_names,
    noted,
)
from trainer.weights.consumers.forms import Refused
from trainer.weights.consumers.groups import Group
from trainer.weights.consumers.reading import Case, Reading, in_diffusers, joined, original
from trainer.weights.names import Site, Sites

_GENERIC: Final = "diffusion_model."
_KOHYA_PAIR: Final = (DOWN, UP)
_LOKR: Final = (".lokr_w1", ".lokr_w1_a", ".lokr_w1_b", ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b")
_COMPONENTS: Final = {"unet": ("transformer.",)}
_SD3_COMPONENTS: Final = _COMPONENTS | {"te1": ("text_encoder.",), "te2": ("text_encoder_2.",)}
_ANIMA_COMPONENTS: Final = {"unet": ("transformer.", "text_conditioner.")}
_LEFT: Final = "It fails at keys that its reader does not know, such as `{key}`."


def sd3(case: Case) -> Reading:
    """SD3: its own names only, with two of the three text encoders."""
    groups, dora = cleaned(case)
    reading = _own(groups, case.sites, _SD3_COMPONENTS)
    return noted(reading.used, dora, reading.note)


def _own(
    groups: list[Group], sites: Sites, components: Mapping[str, tuple[str, ...]] = _COMPONENTS
) -> Reading:
    """Files in its own names, which any other names in it only make it warn of."""
    all_say(groups, "lora", "lokr")
    used = in_own_names(groups, sites, components)
    return Reading(used, None if used else _why_nothing(groups))


def _why_nothing(groups: list[Group]) -> str:
    if all(group.name.startswith("lora_") for group in groups):
        return NO_KOHYA
    return NO_GENERIC if all(group.name.startswith(_GENERIC) for group in groups) else NOTHING


def _originals(sites: Sites) -> dict[str, Site]:
    return {name: site for site in sites.all if (name := original(site)) is not None}


def _begins(groups: Iterable[Group], prefix: str) -> bool:
    return any(group.name.startswith(prefix) for group in groups)


def _has(groups: Iterable[Group], *parts: str) -> bool:
    return any(part in group.parts for group in groups for part in parts)


def _all_of(group: Group, *parts: str) -> set[str]:
    """All keys of a module. Raises Refused where it has others than `parts`, or not both of the first two."""
    if others := [key for part, key in group.parts.items() if part not in parts]:
        raise Refused(_LEFT.format(key=others[0]))
    if missing := [part for part in parts[:2] if part not in group.parts]:
        raise Refused(f"It fails at `{group.name}`, which has no `{missing[0].lstrip('.')}`.")
    return group.keys(parts)


# FLUX.2

_FLUX2_KOHYA: Final = re.compile(
    r"double_blocks\.\d+\.(img|txt)_(attn\.(proj|qkv)|mlp\.[02])|single_blocks\.\d+\.linear[12]"
    r"|img_in|txt_in|time_in\.(in|out)_layer|final_layer\.linear"
)
_FLUX2_GENERIC: Final = re.compile(
    _FLUX2_KOHYA.pattern
    + r"|guidance_in\.(in|out)_layer|final_layer\.adaLN_modulation\.1"
    + r"|(single_stream_modulation|double_stream_modulation_(img|txt))\.lin"
)
#: Names of diffusers that it takes as they are.
_FLUX2_EXPANDED: Final = ("transformer_blocks.", "single_transformer_blocks.")
#: Its two halves lie the other way round in diffusers, which its reader of FLUX.2 does not heed.
_FINAL: Final = "diffusion_model.final_layer.adaLN_modulation.1"
_NOT_TURNED: Final = "It loads `final_layer.adaLN_modulation.1` with its halves the wrong way round."
_FLUX2_LYCORIS: Final = re.compile(r"(single_)?transformer_blocks\.\d+\.(attn|ff|ff_context)\..+")


def flux2(case: Case) -> Reading:
    """FLUX.2: kohya's and the generic names, and LoKr in the generic ones and those of LyCORIS."""
    groups, dora = cleaned(case)
    if _has(groups, DOWN):
        reading = _flux2_kohya(groups, case.sites)
    else:
        reading = _flux2_dotted([_unwrapped(group) for group in groups], case.sites)
    return noted(reading.used, dora, reading.note)


def _unwrapped(group: Group) -> Group:
    return Group(group.name.replace("base_model.model.", _GENERIC), group.parts)


def _flux2_kohya(groups: list[Group], sites: Sites) -> Reading:
    names = {f"lora_unet_{joined(name)}" for name in _originals(sites) if _FLUX2_KOHYA.fullmatch(name)}
    used: set[str] = set()
    for group in groups:
        if group.name in names and DOWN in group.parts:
            if UP not in group.parts:
                raise Refused(f"It fails at `{group.name}`, which has no `lora_up.weight`.")
            used |= group.keys((*_KOHYA_PAIR, ALPHA))
    return Reading(used, None if used else NOTHING)


def _flux2_dotted(groups: list[Group], sites: Sites) -> Reading:
    if _has(groups, *_LOKR):
        return _flux2_lokr(groups, sites)
    if not _begins(groups, _GENERIC):
        return _own(groups, sites)
    known = {_GENERIC + name for name in _originals(sites) if _FLUX2_GENERIC.fullmatch(name)}
    expanded = {
        _GENERIC + name
        for site in sites.all
        if (name := in_diffusers(site)) is not None and name.startswith(_FLUX2_EXPANDED)
    }
    used = _complete(groups, known | expanded, *PAIR)
    turned = {key for group in groups if group.name == _FINAL for key in group.parts.values()}
    return Reading(used - turned, _NOT_TURNED if turned else None)


def _complete(groups: list[Group], names: set[str], *parts: str) -> set[str]:
    """Readers that must understand every key. Raises Refused."""
    used: set[str] = set()
    for group in groups:
        if group.name not in names:
            raise Refused(_LEFT.format(key=next(iter(group.parts.values()))))
        used |= _all_of(group, *parts)
    return used


def _flux2_lokr(groups: list[Group], sites: Sites) -> Reading:
    own = {name: site for site in sites.all if (name := in_diffusers(site)) is not None}
    if _begins(groups, "lycoris_"):
        names = {f"lycoris_{joined(name)}" for name in own if _FLUX2_LYCORIS.fullmatch(name)}
    elif _begins(groups, _GENERIC):
        names = {_GENERIC + name for name in _originals(sites) if _FLUX2_GENERIC.fullmatch(name)}
    elif _begins(groups, "transformer."):
        all_say(groups, "lora", "lokr")
        return Reading(_lokr_keys(groups, {f"transformer.{name}" for name in own}))
    else:
        return Reading(_lokr_keys(groups, set(own), ALPHA))
    if stranger := next((group for group in groups if group.name not in names), None):
        raise Refused(_LEFT.format(key=next(iter(stranger.parts.values()))))
    return Reading(_lokr_keys(groups, names, ALPHA))


def _lokr_keys(groups: list[Group], names: set[str], *more: str) -> set[str]:
    """LoKr without a Tucker core. Raises Refused for other keys."""
    for group in groups:
        if others := [key for part, key in group.parts.items() if part not in (*_LOKR, *more)]:
            raise Refused(_LEFT.format(key=others[0]))
    return {key for group in groups if group.name in names for key in group.keys((*_LOKR, *more))}


# Lumina 2

_LUMINA_BLOCK: Final = re.compile(r"diffusion_model\.(noise_refiner|context_refiner|layers)\.(\d+)\.(.+)")
_LUMINA_INNER: Final = frozenset(
    {"attention.qkv", "attention.out", "feed_forward.w1", "feed_forward.w2", "feed_forward.w3"}
)
_MODULATION: Final = "adaLN_modulation.1"


def lumina2(case: Case) -> Reading:
    """Lumina 2: its own names, and the generic ones of whole blocks, all of them or none."""
    groups, dora = cleaned(case)
    if not _begins(groups, _GENERIC):
        reading = _own(groups, case.sites)
        return noted(reading.used, dora, reading.note)
    blocks: dict[tuple[str, int], set[str]] = defaultdict(set)
    used: set[str] = set()
    for group in groups:
        match = _LUMINA_BLOCK.fullmatch(group.name)
        if match is None:
            raise Refused(_LEFT.format(key=next(iter(group.parts.values()))))
        used |= _all_of(group, *PAIR)
        blocks[match[1], int(match[2])].add(match[3])
    _are_whole(blocks)
    return noted(used, dora)


def _are_whole(blocks: dict[tuple[str, int], set[str]]) -> None:
    """Raises Refused where a block has other modules than all, or one before it is missing."""
    for (part, number), found in blocks.items():
        wanted = _LUMINA_INNER if part == "context_refiner" else _LUMINA_INNER | {_MODULATION}
        if found != wanted or (number and (part, number - 1) not in blocks):
            raise Refused(f"Of `{part}` it wants whole blocks from the first on, and {number} is not.")


# Anima


def anima(case: Case) -> Reading:
    """Anima: its own names and the generic ones, and no alphas."""
    groups, dora = cleaned(case)
    all_say(groups, "lora")
    names = {site.generic: site.peft for site in case.sites.all if site.generic is not None}
    renamed = [Group(names.get(group.name) or group.name, group.parts) for group in groups]
    reading = _own(renamed, case.sites, _ANIMA_COMPONENTS)
    return noted(reading.used, dora, reading.note)


# Qwen-Image and Z-Image


def qwen_image(case: Case) -> Reading:
    """Qwen-Image: all three namings, and nothing that is no plain pair."""
    groups, dora = cleaned(case)
    if not _is_converted(groups):
        reading = _own(groups, case.sites)
        return noted(reading.used, dora, reading.note)
    used = _converted(groups, _bare_names(case.sites))
    return noted(used, dora, None if used else NOTHING)


def _is_converted(groups: list[Group]) -> bool:
    return (
        _has(groups, ALPHA)
        or _begins(groups, "lora_unet_")
        or _begins(groups, _GENERIC)
        or any("default." in part for group in groups for part in group.parts)
    )


def _bare_names(sites: Sites) -> set[str]:
    """Kohya's names and generic ones, and its own without `transformer.`."""
    names: set[str] = set()
    for site in sites.all:
        if (name := in_diffusers(site)) is not None:
            names |= {f"lora_unet_{joined(name)}", _GENERIC + name, name}
    return names


def _converted(groups: list[Group], names: set[str]) -> set[str]:
    """Readers that turn every pair around. Raises Refused where something else is left over."""
    pair = _KOHYA_PAIR if _has(groups, *_KOHYA_PAIR) else _pair_of(groups)
    used: set[str] = set()
    for group in groups:
        keys = _all_of(group, *pair, ALPHA)
        if group.name in names:
            used |= keys
    return used


def _pair_of(groups: list[Group]) -> tuple[str, str]:
    named = (".lora_A.default.weight", ".lora_B.default.weight")
    return named if _has(groups, *named) else PAIR


_Z_KOHYA: Final = re.compile(
    r"(layers|noise_refiner|context_refiner)\.\d+\."
    r"(attention\.(qkv|out|to_[qkv]|to_out\.0)|feed_forward\.w[123]|adaLN_modulation\.0)"
    r"|cap_embedder\.1|t_embedder\.mlp\.[02]"
    r"|all_x_embedder\.2-1|all_final_layer\.2-1\.(linear|adaLN_modulation\.1)"
)
_Z_OUT: Final = "attention.out"


def z_image(case: Case) -> Reading:
    """Z-Image: all namings, but with dots the fused `qkv` of the original code is lost, and mostly `out`."""
    groups, dora = cleaned(case)
    if _has(groups, *_LOKR):
        return noted(_z_lokr(groups, case.sites), dora)
    if not _is_converted(groups):
        reading = _own(groups, case.sites)
        return noted(reading.used, dora, reading.note)
    used = _converted(groups, _z_names(groups, case.sites))
    return noted(used, dora, None if used else NOTHING)


def _z_lokr(groups: list[Group], sites: Sites) -> set[str]:
    own = {name for site in sites.all if (name := in_diffusers(site)) is not None}
    if _begins(groups, _GENERIC) or _has(groups, ALPHA):
        return _lokr_keys(groups, own | {_GENERIC + name for name in own}, ALPHA)
    return _lokr_keys(groups, {f"transformer.{name}" for name in own})


def _z_names(groups: list[Group], sites: Sites) -> set[str]:
    own = {name for site in sites.all if (name := in_diffusers(site)) is not None}
    everything = own | set(_originals(sites))
    names = {prefix + name for name in own for prefix in ("", _GENERIC)}
    names |= {f"lora_unet_{joined(name)}" for name in everything if _Z_KOHYA.fullmatch(name)}
    if _has(groups, *_KOHYA_PAIR):
        names |= {_GENERIC + name for name in everything if name.endswith(_Z_OUT)}
    return names
