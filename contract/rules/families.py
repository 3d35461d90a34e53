"""Which family of models a file of weights belongs to, from its keys and shapes, with the evidence.

Each sign in a file allows some families; the family is what all signs allow together. Nothing is guessed:
where several are left, or none is, because it is of another family or put together from two, the reason names
what was seen. What its metadata says only decides between families that the keys allow.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

from contract.rules.component_traits import component_traits
from contract.rules.family_metadata import stated_family
from contract.rules.family_names import FAMILIES_OF, NAMES, UNET_BEGINNINGS, UNET_STRANGERS, UNETS
from contract.rules.family_traits import Trait, transformer_traits, unet_traits
from contract.rules.model_kinds import ModelKind, is_embedding, kind_by_names
from contract.rules.model_modules import Module, Shapes, adapter_modules, model_modules

#: Family → its name for people.
TITLES: Final[Mapping[str, str]] = {
    "sd15": "SD1.5",
    "sd2": "SD2",
    "sdxl": "SDXL",
    "sdxl_refiner": "SDXL refiner",
    "sd3": "SD3",
    "flux1": "FLUX.1",
    "flux2": "FLUX.2",
    "chroma": "Chroma",
    "lumina2": "Lumina 2",
    "anima": "Anima",
    "qwen_image": "Qwen-Image",
    "z_image": "Z-Image",
    "hunyuan_image": "HunyuanImage",
}
#: Signs that a reader is shown at most.
_SHOWN: Final = 6


class Sign(NamedTuple):
    """A piece of evidence: the key or metadata, and what it says."""

    sign: str
    says: str


class Found(NamedTuple):
    """What a file is. `family` None: `reason` says why, and `candidates` are what its keys allow, more than
    one where they leave it open. `stated` is the family that its metadata names, whether or not that is true;
    `warnings` say where it is not."""

    kind: ModelKind | None
    family: str | None
    evidence: list[Sign]
    reason: str | None
    candidates: tuple[str, ...]
    stated: str | None
    warnings: list[str]


def detect(tensors: Shapes, metadata: Mapping[str, str]) -> Found:
    """Tell a file by the names and shapes of its tensors; no tensor is read."""
    adapter = adapter_modules(tensors)
    kind = _kind(tensors, bool(adapter))
    is_part = kind in _PARTS
    traits = component_traits(kind, tensors) if is_part else _traits(adapter or model_modules(tensors))
    found = _conclude(kind, traits, metadata)
    if found.family is None and (is_part or kind is None or not traits):
        reason = _part_reason(_PARTS.get(kind), found.candidates)
        return found._replace(reason=reason or f"None of its keys is known: {_examples(tensors)}.")
    return found


def _kind(tensors: Shapes, is_adapter: bool) -> ModelKind | None:
    if is_embedding(tensors.keys()):
        return "embedding"
    return "lora" if is_adapter else kind_by_names(tensors.keys())


#: Sorts of files that are no denoiser.
_PARTS: Final[Mapping[ModelKind | None, str]] = {
    "vae": "a VAE",
    "text_encoder": "a text encoder",
    "embedding": "an embedding",
    "controlnet": "a ControlNet",
    "upscaler": "an upscaler",
}


def _part_reason(part: str | None, candidates: tuple[str, ...]) -> str | None:
    if part is None:
        return None
    if candidates:
        return f"It is {part}, and {_titles(frozenset(candidates), 'and')} use the same."
    return f"It is {part}, which does not say whose."


def _traits(modules: Sequence[Module]) -> list[Trait]:
    """Every sign in a file. Both sorts are looked for: a file may be put together from both."""
    inside = [module for module in modules if module.part == "unet"]
    unet = [module for module in inside if module.name.startswith(UNET_BEGINNINGS)]
    others = [module for module in inside if not module.name.startswith(UNET_BEGINNINGS)]
    named = [module for module in others if module.general in FAMILIES_OF]
    if not inside:
        return list(transformer_traits([], modules))
    traits: list[Trait] = []
    if unet:
        first = Trait(unet[0].key, "a module of a U-Net", UNETS)
        traits += [first, *_strangers(unet), *unet_traits(unet, modules)]
    if named:
        traits += [*_by_names(named), *transformer_traits(named, modules)]
    if traits and len(unet) + len(named) < len(inside) / 2:
        traits.append(_unknown(others, len(inside)))
    return traits


def _unknown(others: Sequence[Module], count: int) -> Trait:
    """More modules of nothing known than of what is known make a file of something else."""
    strange = [module.key for module in others if module.general not in FAMILIES_OF]
    return Trait(
        strange[0], f"one of {len(strange)} modules of {count} that are of no known family", frozenset()
    )


def _strangers(unet: Sequence[Module]) -> Iterator[Trait]:
    for module in unet:
        if any(part in module.name for part in UNET_STRANGERS):
            yield Trait(module.key, "a module that no U-Net of Stable Diffusion has", frozenset())
            return


def _by_names(named: Sequence[Module]) -> Iterator[Trait]:
    """One sign for each set of families that names are common to."""
    first: dict[frozenset[str], Module] = {}
    for module in named:
        first.setdefault(FAMILIES_OF[module.general], module)
    for families in sorted(first, key=len):
        if len(families) < len(NAMES):
            yield Trait(first[families].key, f"a module that {_titles(families)} has", families)


def _conclude(kind: ModelKind | None, traits: Sequence[Trait], metadata: Mapping[str, str]) -> Found:
    candidates = frozenset.intersection(*(trait.allows for trait in traits)) if traits else frozenset()
    stated = stated_family(metadata)
    said = None if stated is None else stated[0]
    telling = sorted(traits, key=lambda trait: len(trait.allows))[:_SHOWN]
    evidence = [Sign(trait.sign, trait.says) for trait in telling]
    warnings = [] if stated is None else list(_contradiction(stated, candidates))
    family = next(iter(candidates)) if len(candidates) == 1 else None
    if family is None and stated is not None and stated[0] in candidates:
        family = stated[0]
        evidence.append(Sign(stated[1], f"says {TITLES[family]}, which its keys allow"))
    reason = None if family else _reason(traits, candidates)
    return Found(kind, family, evidence, reason, tuple(sorted(candidates)), said, warnings)


def _contradiction(stated: tuple[str, str], candidates: frozenset[str]) -> Iterator[str]:
    family, field = stated
    if candidates and family not in candidates:
        yield f"`{field}` says {TITLES[family]}, but its keys are those of {_titles(candidates)}."


def _reason(traits: Sequence[Trait], candidates: frozenset[str]) -> str:
    if not traits:
        return "None of its keys is known."
    if candidates:
        return f"Its modules are those of {_titles(candidates, 'and')} alike, and nothing in it says which."
    nothing = next((trait for trait in traits if not trait.allows), None)
    if nothing is not None:
        return f"It is of no known family: `{nothing.sign}`, {nothing.says}."
    first, second = _clash(traits)
    return f"No known family has all of it: `{first.sign}` is {first.says}, `{second.sign}` is {second.says}."


def _clash(traits: Sequence[Trait]) -> tuple[Trait, Trait]:
    """Two signs that no family has both of; or the two that leave least, where it takes more than two."""
    ordered = sorted(traits, key=lambda trait: len(trait.allows))
    for index, first in enumerate(ordered):
        for second in ordered[index + 1 :]:
            if not first.allows & second.allows:
                return first, second
    return ordered[0], ordered[1]


def _titles(families: frozenset[str], word: str = "or") -> str:
    names = [title for family, title in TITLES.items() if family in families]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"


def _examples(keys: Iterable[str]) -> str:
    first = [f"`{key[:80]}`" for key in islice(keys, 4)]
    return f"{', '.join(first[:3])}{' …' if len(first) > 3 else ''}" or "there are none"
