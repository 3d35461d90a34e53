"""What a program makes of an adapter file, and what it is judged by."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from trainer.weights.consumers.forms import Forms, Refused
from trainer.weights.consumers.groups import Group
from trainer.weights.names import Site, Sites


class Reading(NamedTuple):
    """The keys that a program uses, and what should be said about it."""

    used: set[str]
    note: str | None = None


class Case(NamedTuple):
    """An adapter file before a program: its modules, the sites of the published model that it is for, and the
    alphas of the modules that have one, by module name."""

    groups: list[Group]
    sites: Sites
    alphas: Mapping[str, float]

    @property
    def family(self) -> str:
        """The family of the model."""
        return self.sites.family


#: What one program does. It may raise Refused, where it loads nothing.
Rule = Callable[[Case], Reading]


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """One consumer of LoRAs. `rules` by family; `others` is said of the families that it does not run."""

    name: str
    rules: dict[str, Rule]
    others: str

    def read(self, case: Case) -> Reading:
        """What it makes of a file."""
        rule = self.rules.get(case.family)
        if rule is None:
            return Reading(set(), self.others)
        try:
            return rule(case)
        except Refused as refused:
            return Reading(set(), f"Loads nothing of it. {refused}")


def by_names(groups: Sequence[Group], names: set[str], forms: Forms) -> set[str]:
    """The keys of all modules whose name the program knows. Raises Refused."""
    used: set[str] = set()
    for group in groups:
        if group.name in names:
            used |= forms.read(group)
    return used


_GENERIC: Final = "diffusion_model."


def original(site: Site) -> str | None:
    """The module of the denoiser that has this site's weight for itself, as programs call it that run the
    original code; None for parts of fused weights."""
    if site.component != "unet" or site.rows is not None or site.generic is None:
        return None
    name = site.generic.removeprefix(_GENERIC)
    if name == in_diffusers(site):
        # Another name of the weight, where the two layouts differ in it.
        return site.weight.removesuffix(".weight")
    return name


def in_diffusers(site: Site) -> str | None:
    """The module of the denoiser in diffusers, without the name of the denoiser before it."""
    if site.component != "unet" or site.peft is None:
        return None
    return site.peft.partition(".")[2]


def joined(name: str) -> str:
    """A dotted name as kohya writes it."""
    return name.replace(".", "_")


def encoder(site: Site) -> str | None:
    """Which text encoder a site is in, as ComfyUI calls it (clip_l, t5xxl, …); None for the denoiser."""
    if site.component == "unet" or site.generic is None:
        return None
    return site.generic.split(".")[1]


def in_encoder(site: Site) -> str | None:
    """The module in a text encoder as transformers calls it; of a language model, below its `model`."""
    if site.component == "unet" or site.generic is None:
        return None
    return site.generic.partition(".transformer.")[2].removeprefix("model.")
