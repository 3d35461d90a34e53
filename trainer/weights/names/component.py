"""The parts of a model that have modules of their own: the denoiser and the text encoders."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from trainer.weights.names.site import Place, Shape, Site, Weights

#: Weights of one component, by their keys below its prefix, to its places.
Layout = Callable[[Mapping[str, Shape]], Iterator[Place]]


class Source(NamedTuple):
    """Where a component is in a single file: what its keys begin with there, and how they are laid out."""

    prefix: str
    layout: Layout


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """A component of a family. `sources` are looked for in their order; `kohya`, `peft` and `generic` are
    what its modules begin with in each naming, and `aliases` what else they do, dots as underscores."""

    id: str
    sources: tuple[Source, ...]
    kohya: str
    peft: str
    generic: str
    aliases: tuple[str, ...] = ()

    def sites(self, weights: Weights) -> list[Site]:
        """Its sites in a checkpoint, or in a file of this component alone; empty where there are none."""
        for source in self.sources:
            below = _below(source.prefix, weights)
            if below and (found := [self._site(source.prefix, at) for at in source.layout(below)]):
                return found
        return []

    def _site(self, prefix: str, at: Place) -> Site:
        return Site(
            self.id,
            at.block,
            prefix + at.weight,
            at.rows,
            at.swapped,
            at.shape,
            None if at.kohya is None else self.kohya + at.kohya.replace(".", "_"),
            None if at.peft is None else self.peft + at.peft,
            None if at.generic is None else self.generic + at.generic,
            at.kind,
        )

    def paths(self, site: Site) -> Iterator[str]:
        """The names of a site without what they begin with, and that of its weight, where it is all of it."""
        names = ((site.kohya, self.kohya), (site.peft, self.peft), (site.generic, self.generic))
        for name, beginning in names:
            if name is not None and name.startswith(beginning):
                yield name[len(beginning) :]
        if site.rows is None and not site.swapped:
            for prefix, _ in self.sources:
                if site.weight.startswith(prefix):
                    yield site.weight.removeprefix(prefix).removesuffix(".weight")
                    break

    @property
    def beginnings(self) -> tuple[str, ...]:
        """Every beginning that a module name of it may have, dots as underscores."""
        names = (self.kohya, self.peft, self.generic, *(source.prefix for source in self.sources))
        return *dict.fromkeys(name.replace(".", "_") for name in names), *self.aliases


def denoiser(layout: Layout, *, peft: str, prefixes: tuple[str, ...] = ()) -> Component:
    """The U-Net or transformer of a family. `peft` is what diffusers calls it: unet or transformer.
    `prefixes` are further ones in single files."""
    places = ("model.diffusion_model.", "diffusion_model.", *prefixes, "")
    return Component(
        id="unet",
        sources=tuple(Source(prefix, layout) for prefix in places),
        kohya="lora_unet_",
        peft=f"{peft}.",
        generic="diffusion_model.",
        aliases=("unet_", "transformer_", "lora_transformer_"),
    )


def text_encoder(
    id: str,
    *,
    called: str,
    peft: str,
    layout: Layout,
    others: tuple[Source, ...] = (),
    kohya: str | None = None,
) -> Component:
    """A text encoder: `called` is its name in ComfyUI, clip_l for example, and `peft` that in diffusers.
    `layout` is that of transformers; `others` are where it is in the family's older single files. A file of
    the text encoder alone has no sites: several encoders of one model have the same names."""
    generic = f"text_encoders.{called}.transformer."
    name = kohya or f"lora_{id}_"
    return Component(
        id=id,
        sources=(*others, Source(generic, layout)),
        kohya=name,
        peft=f"{peft}.",
        generic=generic,
        aliases=(f"lora_{id}_", *(("lora_te_",) if id == "te1" else ())),
    )


def _below(prefix: str, weights: Weights) -> dict[str, Shape]:
    if not prefix:
        return {key: tuple(shape) for key, shape in weights.items()}
    cut = len(prefix)
    return {key[cut:]: tuple(shape) for key, shape in weights.items() if key.startswith(prefix)}
