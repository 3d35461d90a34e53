"""What A1111's web UI reads of an adapter.

It names the modules of the model as the original code does, joined with underscores, and turns the names of
the file into those: kohya's in either layout, for SD3 those of diffusers. A module whose name it knows and
whose tensors it does not ends the loading of the whole file. Where text encoders have one fused weight for
four projections, a LoRA must have all four of them.

Established by reading `extensions-builtin/Lora` of stable-diffusion-webui 1.10; no line of it is here.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from trainer.weights.consumers import forms
from trainer.weights.consumers.forms import Form, Forms, Refused, pair
from trainer.weights.consumers.groups import Group
from trainer.weights.consumers.reading import (
    Case,
    Program,
    Reading,
    in_diffusers,
    in_encoder,
    joined,
    original,
)
from trainer.weights.names import Site, Sites

#: File name of a module to the site it is taken to.
Taken = dict[str, Site]

_TYPES: Final = (
    forms.KOHYA_PAIR,
    pair(".lora_B.weight", ".lora_A.weight"),
    Form((".hada_w1_a",), (), (".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ".hada_t1", ".hada_t2")),
    Form((".oft_blocks", ".oft_diag")),
    forms.LOKR,
    Form((".diff",), (), (".diff_b",)),
    Form((".w_norm",), (".b_norm",)),
    forms.GLORA,
)
_FORMS: Final = Forms((_TYPES,))

_RESNET: Final = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_BLOCK: Final = re.compile(r"(down|up)_blocks\.(\d+)\.(attentions|resnets)\.(\d+)\.(.+)")
_MIDDLE: Final = re.compile(r"mid_block\.(attentions|resnets)\.(\d+)\.(.+)")
_SAMPLER: Final = re.compile(r"(down|up)_blocks\.(\d+)\.(?:down|up)samplers\.0\.conv")
_ENDS: Final = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
}


def in_original(name: str) -> str:
    """Where it looks for a module that is named as in diffusers: three places to a level, and an upsampler
    after attention everywhere but in the first level. Names that it does not know stay as they are."""
    if name in _ENDS:
        return _ENDS[name]
    if (match := _BLOCK.fullmatch(name)) is not None:
        side, level, kind, index, inner = match.groups()
        place = int(level) * 3 + int(index) + (side == "down")
        blocks = "input_blocks" if side == "down" else "output_blocks"
        return f"{blocks}.{place}.{_place(kind, inner)}"
    if (match := _MIDDLE.fullmatch(name)) is not None:
        kind, index, inner = match.groups()
        if kind == "attentions":
            return f"middle_block.1.{inner}"
        return f"middle_block.{int(index) * 2}.{_RESNET.get(inner, inner)}"
    if (match := _SAMPLER.fullmatch(name)) is not None:
        level = int(match[2])
        if match[1] == "down":
            return f"input_blocks.{level * 3 + 3}.0.op"
        return f"output_blocks.{level * 3 + 2}.{2 if level else 1}.conv"
    return name


def _place(kind: str, inner: str) -> str:
    return f"1.{inner}" if kind == "attentions" else f"0.{_RESNET.get(inner, inner)}"


def _unet(sites: Sites) -> Iterator[tuple[str, Site]]:
    for site in sites.all:
        if (name := original(site)) is None:
            continue
        yield f"lora_unet_{joined(name)}", site
        other = in_diffusers(site)
        if other is not None and in_original(other) == name:
            yield f"lora_unet_{joined(other)}", site


def _encoder(sites: Sites, component: str, *prefixes: str) -> Iterator[tuple[str, Site]]:
    for site in sites.all:
        name = in_encoder(site)
        if site.component == component and name is not None and ".layers." in name:
            yield from ((prefix + joined(name), site) for prefix in prefixes)


def _sd15(sites: Sites) -> Taken:
    return dict([*_unet(sites), *_encoder(sites, "te1", "lora_te_", "lora_te1_")])


def _sd2(sites: Sites) -> Taken:
    return dict([*_unet(sites), *_encoder(sites, "te1", "lora_te_")])


def _sdxl(sites: Sites) -> Taken:
    return dict([*_unet(sites), *_encoder(sites, "te1", "lora_te1_"), *_encoder(sites, "te2", "lora_te2_")])


def _refiner(sites: Sites) -> Taken:
    return dict(_unet(sites))


def _stable_diffusion(taken: Callable[[Sites], Taken]) -> Callable[[Case], Reading]:
    def read(case: Case) -> Reading:
        names = taken(case.sites)
        complete = _complete(case.groups, names)
        used: set[str] = set()
        for group in case.groups:
            if group.name in names:
                keys = _module(group)
                used |= keys if complete(group.name) else set()
        return Reading(used)

    return read


def _module(group: Group) -> set[str]:
    """The keys of a module whose name it knows. Raises Refused for a type that it does not."""
    if not any(form.found(group) for form in _TYPES):
        raise Refused(f"It fails at `{group.name}`, of a type that it does not know.")
    return _FORMS.read(group)


def _complete(groups: list[Group], names: Taken) -> Callable[[str], bool]:
    """Whether a module is used: of a fused attention all four projections must be there, or none is."""
    found = Counter(_attention(names[group.name]) for group in groups if group.name in names)
    return lambda name: (place := _attention(names[name])) is None or found[place] == _PROJECTIONS


#: q, k, v and the one that follows them.
_PROJECTIONS: Final = 4
_FUSED: Final = re.compile(r"(.+\.attn\.)(in_proj_weight|out_proj\.weight)")


def _attention(site: Site) -> str | None:
    match = None if site.component == "unet" else _FUSED.fullmatch(site.weight)
    return None if match is None else match[1]


_SD3_NAMES: Final = re.compile(r"transformer\.transformer_blocks\.\d+\.attn\.(to_[qkv]|to_out\.0)")
_QKV: Final = re.compile(r"(.+\.)to_[qkv]")


def _sd3(case: Case) -> Reading:
    """SD3: keys are cut at their last two dots, so that kohya's `.alpha`, which has one, ends the loading. Of
    diffusers' names it knows the attention of the image's half, whose q, k and v must all be there."""
    if any(key.count(".") < _SD3_DOTS for group in case.groups for key in group.parts.values()):
        raise Refused("For SD3 it fails at keys with only one dot, as kohya's `.alpha` is.")
    kohya = {f"lora_unet_{joined(name)}" for site in case.sites.all if (name := original(site)) is not None}
    names = kohya | {
        site.peft for site in case.sites.all if site.peft is not None and _SD3_NAMES.fullmatch(site.peft)
    }
    parts = Counter(match[1] for group in case.groups if (match := _QKV.fullmatch(group.name)))
    used: set[str] = set()
    for group in case.groups:
        match = _QKV.fullmatch(group.name)
        if group.name in names and (match is None or parts[match[1]] == _THREE):
            used |= _SD3_FORMS.read(group)
    return Reading(used)


_SD3_DOTS: Final = 2
_THREE: Final = 3
#: Its endings have two parts here.
_SD3_FORMS: Final = Forms(((forms.KOHYA_PAIR, pair(".lora_B.weight", ".lora_A.weight")),), ())


WEBUI: Final = Program(
    name="A1111",
    rules={
        "sd15": _stable_diffusion(_sd15),
        "sd2": _stable_diffusion(_sd2),
        "sdxl": _stable_diffusion(_sdxl),
        "sdxl_refiner": _stable_diffusion(_refiner),
        "sd3": _sd3,
    },
    others="It does not run this family.",
)
