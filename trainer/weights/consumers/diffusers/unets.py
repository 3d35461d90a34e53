"""What diffusers loads of an adapter of Stable Diffusion 1, 2 or XL.

Kohya's files are converted, but only when all of their keys have kohya's beginnings and are plain pairs: one
tensor of another type ends the loading of the file. Only SDXL's loader turns the blocks of the original code
around, and its reader of joined names takes `add_embedding` for something else.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from trainer.weights.consumers.diffusers.own import (
    ALPHA,
    DOWN,
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
from trainer.weights.consumers.reading import Case, Reading, Rule, in_diffusers, joined, original
from trainer.weights.names import Site, Sites

_KOHYA_PARTS: Final = frozenset({DOWN, UP, ALPHA})
_COMPONENTS: Final = {"unet": ("unet.",), "te1": ("text_encoder.",), "te2": ("text_encoder_2.",)}

_KOHYA_PREFIXES: Final = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_")
_ORIGINAL_WORDS: Final = ("input_blocks", "middle_block", "output_blocks")
_DIFFUSERS_WORDS: Final = ("down_blocks", "mid_block", "up_blocks")
#: Names of the original code outside of the blocks, which every U-Net's reader knows.
_ENDS: Final = ("time_embed.0", "time_embed.2", "input_blocks.0.0", "out.2")


def _sd_names(sites: Sites) -> dict[str, Site]:
    names = dict(_unet_names(sites))
    names |= {f"lora_unet_{joined(end)}": site for end, site in _by_original(sites).items() if end in _ENDS}
    return names | dict(_clip_names(sites, {"te1": ("lora_te_", "lora_te1_")}))


def _sdxl_names(sites: Sites) -> dict[str, Site]:
    """Both layouts, except that the joined name of `add_embedding` is understood as something else."""
    names = {name: site for name, site in _unet_names(sites) if "add_embedding" not in name}
    names |= {f"lora_unet_{joined(name)}": site for name, site in _by_original(sites).items()}
    encoders = {"te1": ("lora_te_", "lora_te1_"), "te2": ("lora_te2_",)}
    return names | dict(_clip_names(sites, encoders))


def _unet_names(sites: Sites) -> Iterator[tuple[str, Site]]:
    for site in sites.all:
        if (name := in_diffusers(site)) is not None:
            yield f"lora_unet_{joined(name)}", site


def _by_original(sites: Sites) -> dict[str, Site]:
    return {name: site for site in sites.all if (name := original(site)) is not None}


def _clip_names(sites: Sites, prefixes: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, Site]]:
    for site in sites.all:
        if site.component != "unet" and site.peft is not None:
            name = joined(site.peft.partition(".")[2])
            yield from ((prefix + name, site) for prefix in prefixes.get(site.component, ()))


def _stable_diffusion(names: Callable[[Sites], dict[str, Site]], *, remaps: bool) -> Rule:
    """The loaders of U-Nets. `remaps`: SDXL's, which alone turns the names of the original code around."""

    def read(case: Case) -> Reading:
        groups, dora = cleaned(case)
        if all(group.name.startswith(_KOHYA_PREFIXES) for group in groups):
            for group in groups:
                _is_pair(group)
            read = _without_original(groups) if remaps else groups
            used, scales = _kohya_unet(read, names(case.sites), case.alphas)
            return noted(used, dora, scales, None if used else NOTHING)
        all_say(groups, "lora")
        used = in_own_names(groups, case.sites, _COMPONENTS)
        return noted(used, dora, None if used else NOTHING)

    return read


def _is_pair(group: Group) -> None:
    """Raises Refused for a module that is no plain pair, which ends the loading of the whole file."""
    if others := [key for part, key in group.parts.items() if part not in _KOHYA_PARTS]:
        raise Refused(f"It fails at keys other than of plain LoRAs, such as `{others[0]}`.")
    if missing := [part for part in (DOWN, UP) if part not in group.parts]:
        raise Refused(f"It fails at `{group.name}`, which has no `{missing[0].lstrip('.')}`.")


def _without_original(groups: list[Group]) -> list[Group]:
    """Where a file has names in both layouts, those of the original code are dropped without a word."""
    both = all(any(_says(group, words) for group in groups) for words in (_ORIGINAL_WORDS, _DIFFUSERS_WORDS))
    return [group for group in groups if not _says(group, _ORIGINAL_WORDS)] if both else groups


def _says(group: Group, words: tuple[str, ...]) -> bool:
    return any(word in group.name for word in words)


def _kohya_unet(
    groups: list[Group], names: Mapping[str, Site], alphas: Mapping[str, float]
) -> tuple[set[str], str | None]:
    """The keys that are used, and what is to be said of their scales."""
    modules = [(group, names[group.name]) for group in groups if group.name in names]
    used = {key for group, _ in modules for key in group.keys((DOWN, UP))}
    scales, note = scaled(modules, alphas, _is_told)
    return used | scales, note


def _is_told(site: Site) -> bool:
    """Alphas of attention go by names that it has no longer, and so do those of text encoders, except for the
    one with a projection, which has kept a level of names that the others have lost."""
    if site.component == "unet":
        return site.kind != "attention"
    return site.component == "te2" and site.kind == "feed_forward"


#: By family.
UNETS: Final[dict[str, Rule]] = {
    "sd15": _stable_diffusion(_sd_names, remaps=False),
    "sd2": _stable_diffusion(_sd_names, remaps=False),
    "sdxl": _stable_diffusion(_sdxl_names, remaps=True),
    "sdxl_refiner": _stable_diffusion(_sdxl_names, remaps=True),
}
