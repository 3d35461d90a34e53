"""What diffusers loads of an adapter in its own names, and what all of its loaders do before and after."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from trainer.weights.consumers.forms import Refused
from trainer.weights.consumers.groups import Group
from trainer.weights.consumers.reading import Case, Reading
from trainer.weights.names import Site, Sites

DOWN: Final = ".lora_down.weight"
UP: Final = ".lora_up.weight"
ALPHA: Final = ".alpha"
PAIR: Final = (".lora_A.weight", ".lora_B.weight")
_DORA: Final = ".dora_scale"
#: What is read of a module of a denoiser: its pair, also as older versions wrote it, and its magnitudes.
_IN_UNET: Final = (
    (PAIR, (".lora.down.weight", ".lora.up.weight"), ("_lora.down.weight", "_lora.up.weight")),
    (".lora_magnitude_vector", ".lora_magnitude_vector.weight"),
)
#: The same of a text encoder.
_IN_ENCODER: Final = (
    (
        PAIR,
        (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
        ("_lora.down.weight", "_lora.up.weight"),
    ),
    (".lora_magnitude_vector.weight",),
)
#: The attention of text encoders as it was called there.
_OLD_ATTENTION: Final = (
    ("q_proj", "to_q"),
    ("k_proj", "to_k"),
    ("v_proj", "to_v"),
    ("out_proj", "to_out"),
)
#: LoRAs on norms and embeddings exist in no file; peft has layers for the others.
_LAYERS: Final = ("attention", "feed_forward", "proj", "conv", "embedding", "time", "other")

WITHOUT_DORA: Final = "It drops every `dora_scale` and keeps the low-rank part, which does something else."
NOTHING: Final = "It loads nothing of it, and says so only in a warning."
NO_KOHYA: Final = "It has no reader for kohya's names of this family and loads nothing, with only a warning."
NO_GENERIC: Final = "It has no reader for `diffusion_model.` names of this family and loads nothing."
_OTHER_ALPHAS: Final = (
    "The alphas differ: {wrong} modules get the commonest alpha instead of their own, and so another scale."
)
_STRAY_ALPHA: Final = "It refuses files with keys that have no `lora` in them, as `.alpha` has none."


def noted(used: set[str], *notes: str | None) -> Reading:
    """A reading with all that is to be said of it."""
    return Reading(used, " ".join(note for note in notes if note) or None)


def cleaned(case: Case) -> tuple[list[Group], str | None]:
    """The modules without DoRA's magnitudes, which every loader drops first, and what is to be said of it."""
    if not any(_DORA in group.parts for group in case.groups):
        return case.groups, None
    kept = [
        Group(group.name, {part: key for part, key in group.parts.items() if part != _DORA})
        for group in case.groups
    ]
    return [group for group in kept if group.parts], WITHOUT_DORA


def all_say(groups: list[Group], *words: str) -> None:
    """Raises Refused where a key has none of the `words` in it."""
    for group in groups:
        for part, key in group.parts.items():
            if not any(word in key for word in words):
                raise Refused(_STRAY_ALPHA if part == ALPHA else f"It refuses files with keys like `{key}`.")


def in_own_names(groups: list[Group], sites: Sites, components: Mapping[str, tuple[str, ...]]) -> set[str]:
    """The keys of modules in diffusers' own names, below the components that its pipeline has a loader for.

    Raises Refused where those of the denoiser are there and none of them has an ending that it knows.
    """
    names = {name: site for site in sites.all for name in _own_names(site, components)}
    used: set[str] = set()
    for group in groups:
        if (site := names.get(group.name)) is not None and site.kind in _LAYERS:
            used |= _pair(group, *(_IN_UNET if site.component == "unet" else _IN_ENCODER))
    if not used and (strange := next((group for group in groups if group.name in names), None)) is not None:
        raise Refused(f"It fails at endings that it does not know, as that of `{_first(strange)}`.")
    return used


def scaled(
    modules: list[tuple[Group, Site]], alphas: Mapping[str, float], told: Callable[[Site], bool]
) -> tuple[set[str], str | None]:
    """The alphas that come into effect, and what is to be said where not all do.

    Peft is given one alpha for a model, the commonest, and exceptions by module name. `told` says of a site
    whether the name in its exception is right. Others get the commonest, and so do modules without an alpha
    beside some that have one.
    """
    used: set[str] = set()
    wrong = 0
    for component in {site.component for _, site in modules}:
        inside = [(group, site) for group, site in modules if site.component == component]
        given = Counter(alphas[group.name] for group, _ in inside if group.name in alphas)
        default = given.most_common(1)[0][0] if given else None
        for group, site in inside:
            alpha = alphas.get(group.name)
            if alpha == default or (alpha is not None and told(site)):
                used |= group.keys((ALPHA,))
            else:
                wrong += 1
    return used, _OTHER_ALPHAS.format(wrong=wrong) if wrong else None


def _pair(group: Group, pairs: tuple[tuple[str, str], ...], magnitudes: tuple[str, ...]) -> set[str]:
    for pair in pairs:
        if all(part in group.parts for part in pair):
            return group.keys((*pair, *magnitudes))
    return set()


def _first(group: Group) -> str:
    return next(iter(group.parts.values()))


def _own_names(site: Site, components: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    if site.peft is None or not site.peft.startswith(components.get(site.component, ())):
        return
    yield site.peft
    if site.peft.startswith("unet."):
        processor = site.peft.replace(".to_", ".processor.to_")
        yield processor.removesuffix(".0") if processor.endswith(".to_out.0") else processor
    elif site.component != "unet":
        for new, old in _OLD_ATTENTION:
            if site.peft.endswith(f".self_attn.{new}"):
                yield site.peft.removesuffix(new) + old
