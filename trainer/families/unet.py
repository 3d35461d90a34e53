"""Families with a U-Net: Stable Diffusion, its VAE of four channels and its CLIP text encoders."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from contract.errors import FileUnreadable, WeightsIncomplete, WeightsMismatch
from trainer.families.base import ALL_PARTS, Loaded, ModelFiles, Part, Recognised
from trainer.families.fingerprint import fingerprint
from trainer.families.libraries import libraries
from trainer.families.pieces import Layout, check, fill, shapes, without_memory
from trainer.families.source import Source, open_source
from trainer.families.text import core
from trainer.families.tokenizer import SMALLEST, TOKENS, Tokenizer, packaged
from trainer.families.unet_model import UNetModel
from trainer.families.widths import Config, clip_config, unet_config, vae_config, vector_config

if TYPE_CHECKING:
    import torch
    from torch import nn

_TITLES: Final = {"unet": "U-Net", "vae": "VAE", "te1": "text encoder", "te2": "second text encoder"}


class Encoder(NamedTuple):
    """A text encoder: its component, what fills short texts up, and whether a projection of the text is
    behind it."""

    component: str
    pad: str
    projected: bool


class UNetFamily(msgspec.Struct, frozen=True, kw_only=True):
    """A family with a U-Net as data. `model` makes what is loaded; `told_sizes`: its U-Net takes sizes and
    the pooled text of its last encoder."""

    name: str
    encoders: tuple[Encoder, ...]
    model: Callable[[str, Recognised], UNetModel]
    conditions: tuple[str, ...]
    resolution: int
    told_sizes: bool = False
    latent_channels: int = 4
    latent_scale: int = 8

    @property
    def components(self) -> tuple[str, ...]:
        return ("unet", *(encoder.component for encoder in self.encoders))

    def load(
        self,
        files: ModelFiles,
        dtype: "torch.dtype",
        *,
        parts: frozenset[Part] = ALL_PARTS,
        device: str = "cpu",
        vae_dtype: "torch.dtype | None" = None,
    ) -> Loaded:
        with ExitStack() as stack:
            source = open_source(files, self.name, self._needed(parts), self.latent_channels, stack)
            planned = _Plan(self, source)
            chosen = [planned.module(component) for component in self._asked(parts)]
            for made in chosen:
                check(made.module, made.layout, made.where)
            model = self.model(self.name, source.recognised)
            for made in chosen:
                asked = vae_dtype if made.component == "vae" and vae_dtype is not None else dtype
                fill(made.module, made.layout, _dtype(made, asked), device)
                _place(model, made.component, made.module)
            if "text" in parts:
                model.tokenizers.update(planned.tokenizers)
        return model

    def fingerprint(self, files: ModelFiles, part: Part) -> str:
        asked = self._asked(frozenset({part}))
        with ExitStack() as stack:
            source = open_source(files, self.name, asked, self.latent_channels, stack)
            return fingerprint({each: source.layouts.get(each, {}) for each in asked})

    def blank(self, parts: frozenset[Part] = ALL_PARTS) -> Loaded:
        model = self.model(self.name, Recognised(self.name, "epsilon", False, []))
        published = _published(self.name)
        for component in self._asked(parts):
            _place(model, component, self.made(component, dict(published[component]), TOKENS - 1))
        return model

    def made(self, component: str, config: Config, end: int) -> "nn.Module":
        """A part without memory. `end` is the token that texts end with."""
        if component in _DIFFUSERS:
            return without_memory(lambda: _DIFFUSERS[component](config))
        projected = next(each.projected for each in self.encoders if each.component == component)
        encoder = without_memory(lambda: _clip(config, projected, end))
        _count_positions(core(encoder).embeddings)
        return encoder

    def _asked(self, parts: frozenset[Part]) -> tuple[str, ...]:
        """The components of some parts."""
        named = {
            "denoiser": ("unet",),
            "vae": ("vae",),
            "text": tuple(each.component for each in self.encoders),
        }
        return tuple(component for part in named if part in parts for component in named[part])

    def _needed(self, parts: frozenset[Part]) -> tuple[str, ...]:
        """What has to be opened for them: a U-Net that is told sizes has no word of how wide the text is."""
        others = self._asked(frozenset({"text"})) if self.told_sizes and "denoiser" in parts else ()
        return tuple(dict.fromkeys((*self._asked(parts), *others)))


class _Made(NamedTuple):
    """A part without memory, and where its numbers are."""

    component: str
    module: "nn.Module"
    layout: Layout
    where: str


class _Plan:
    """The parts of an opened model, made but not read."""

    def __init__(self, family: UNetFamily, source: Source) -> None:
        self._family = family
        self._source = source
        self.tokenizers: dict[str, Tokenizer] = {}

    def module(self, component: str) -> _Made:
        """Raises WeightsIncomplete and WeightsMismatch where the part is not there, or not whole."""
        where = self._source.places[component]
        layout = self._layout(component)
        config = self._config(component, layout)
        if component == "vae":
            self._check_latents(config, where)
        end = self._tokenizer(component, config).end if component in _CLIPS else 0
        module = self._made(component, config, end)
        return _Made(component, module, _named_for(module, layout) if end else layout, where)

    def _made(self, component: str, config: Config, end: int) -> "nn.Module":
        try:
            return self._family.made(component, config, end)
        except _INVALID as error:
            if component not in self._source.configs:
                raise
            raise _no_configuration(self._source.places[component]) from error

    def _layout(self, component: str) -> Layout:
        layout = self._source.layouts.get(component, {})
        if not layout:
            where = self._source.places[component]
            raise WeightsIncomplete(
                f"`{where}` has no {_TITLES[component]}.",
                where=where,
                hint="Name a VAE file in the settings."
                if component == "vae"
                else "Choose a whole checkpoint.",
            )
        return layout

    def _config(self, component: str, layout: Layout) -> Config:
        own = self._source.configs.get(component)
        if own is not None:
            return dict(own)
        where, published = self._source.places[component], _published(self._family.name)[component]
        config = _CONFIGS[component](published, shapes(layout), where)
        if component == "unet" and self._family.told_sizes:
            config |= vector_config(shapes(layout), self._pooled(), where)
        return config

    def _pooled(self) -> int:
        last = self._family.encoders[-1].component
        return int(self._config(last, self._layout(last))["projection_dim"])

    def _tokenizer(self, component: str, config: Config) -> Tokenizer:
        pad = next(each.pad for each in self._family.encoders if each.component == component)
        tokens, where = config.get("vocab_size", TOKENS), self._source.places[component]
        if not isinstance(tokens, int):
            raise _no_configuration(where)
        tokenizer = self._source.tokenizer(component, pad)
        if tokenizer is None and tokens >= SMALLEST:
            tokenizer = packaged(tokens, pad)
        if tokenizer is None or len(tokenizer) > tokens:
            raise WeightsMismatch(
                f"The {_TITLES[component]} of `{where}` has {tokens} tokens, fewer than its tokenizer.",
                where=where,
            )
        self.tokenizers[component] = tokenizer
        return tokenizer

    def _check_latents(self, config: Config, where: str) -> None:
        channels = config.get("latent_channels", self._family.latent_channels)
        if channels != self._family.latent_channels:
            raise WeightsMismatch(
                f"The VAE of `{where}` has latents of {channels} channels, "
                f"not of {self._family.latent_channels}.",
                where=where,
            )


#: What the libraries raise where a configuration makes no model.
_INVALID: Final = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def _no_configuration(where: str) -> FileUnreadable:
    return FileUnreadable(f"The `config.json` in `{where}` makes no model.", where=where)


def _unet_module(config: Config) -> "nn.Module":
    unet: nn.Module = libraries().unet.from_config(config)
    return unet


def _vae_module(config: Config) -> "nn.Module":
    vae: nn.Module = libraries().vae.from_config(config)
    return vae


def _clip(config: Config, projected: bool, end: int) -> "nn.Module":
    known = libraries()
    # The pooled text is taken at the first end. Published configurations say 2, with which transformers takes
    # it at the highest token; that is another one where words were added behind the end.
    facts = known.clip_config.from_dict({**config, "eos_token_id": end, "bos_token_id": end - 1})
    text: nn.Module = (known.clip_projected if projected else known.clip)(facts)
    return text


def _count_positions(embeddings: Any) -> None:
    """The numbers of the positions are in no state of transformers', so they are never read from a file."""
    import torch

    embeddings.position_ids = torch.arange(embeddings.position_ids.shape[-1])[None]


_DIFFUSERS: Final = {"unet": _unet_module, "vae": _vae_module}
_CLIPS: Final = ("te1", "te2")
_CONFIGS: Final = {"unet": unet_config, "vae": vae_config, "te1": clip_config, "te2": clip_config}


@cache
def _published(family: str) -> dict[str, Config]:
    """The published configurations of a family, by component."""
    content = resources.files("trainer.families").joinpath(f"data/{family}.json").read_text("utf-8")
    published: dict[str, Config] = json.loads(content)
    return published


def _named_for(encoder: "nn.Module", layout: Layout) -> Layout:
    """The names of an encoder's class: CLIPTextModel lost the level `text_model.` in transformers 5.6, the
    one with a projection has it. A projection that is never read is left out."""
    if core(encoder) is not encoder:
        return layout
    return {
        name.removeprefix("text_model."): piece
        for name, piece in layout.items()
        if not name.startswith("text_projection.")
    }


def _dtype(made: _Made, dtype: "torch.dtype") -> "torch.dtype":
    """What a part is kept in: SDXL's VAE overflows in fp16 and says so (`force_upcast`)."""
    import torch

    config: Any = made.module.config
    upcast = made.component == "vae" and bool(config.get("force_upcast", True))
    return torch.float32 if upcast and dtype == torch.float16 else dtype


def _place(model: Loaded, component: str, module: "nn.Module") -> None:
    if component == "unet":
        model.denoiser = module
    elif component == "vae":
        model.vae = module
    else:
        model.text_encoders[component] = module
