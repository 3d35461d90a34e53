"""U-Nets of Stable Diffusion: names of the original code and those of diffusers.

Facts: the original layout is that of `convert_ldm_unet_checkpoint` in diffusers; where a level begins is told
by its down- and upsamplers, so that U-Nets of any depth are understood.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from contract.rules import blocks
from contract.rules.block_numbers import is_number
from trainer.weights.names.component import Layout
from trainer.weights.names.site import Kind, Place, Shape
from trainer.weights.names.unet_levels import Levels, is_diffusers

_ENDS: Final[Mapping[str, tuple[str, Kind]]] = {
    "time_embed.0": ("time_embedding.linear_1", "time"),
    "time_embed.2": ("time_embedding.linear_2", "time"),
    "label_emb.0.0": ("add_embedding.linear_1", "embedding"),
    "label_emb.0.2": ("add_embedding.linear_2", "embedding"),
    "input_blocks.0.0": ("conv_in", "conv"),
    "out.0": ("conv_norm_out", "norm"),
    "out.2": ("conv_out", "conv"),
}
_RESNET: Final[Mapping[str, tuple[str, Kind]]] = {
    "in_layers.0": ("norm1", "norm"),
    "in_layers.2": ("conv1", "conv"),
    "emb_layers.1": ("time_emb_proj", "time"),
    "out_layers.0": ("norm2", "norm"),
    "out_layers.3": ("conv2", "conv"),
    "skip_connection": ("conv_shortcut", "conv"),
}
_WEIGHT: Final = ".weight"
#: What block layouts expect before names.
_UNET: Final = "model.diffusion_model."


def as_diffusers(family: str) -> Layout:
    """SD1.5 and SD2, whose kohya names are those of diffusers."""

    def layout(weights: Mapping[str, Shape]) -> Iterator[Place]:
        for at in _modules(weights):
            block = blocks.block_of(family, f"{_UNET}{at.name}.")
            yield Place(at.weight, block, at.kind, weights[at.weight], at.diffusers, at.diffusers, at.name)

    return layout


def as_original(family: str) -> Layout:
    """SDXL, whose kohya names are those of the original code."""

    def layout(weights: Mapping[str, Shape]) -> Iterator[Place]:
        for at in _modules(weights):
            block = blocks.block_of(family, f"{_UNET}{at.name}.")
            yield Place(at.weight, block, at.kind, weights[at.weight], at.name, at.diffusers, at.name)

    return layout


class _Module(NamedTuple):
    """A module: its key in the file, its name in the original code and in diffusers."""

    weight: str
    name: str
    diffusers: str
    kind: Kind


def _modules(weights: Mapping[str, Shape]) -> Iterator[_Module]:
    keys = _original_names(weights)
    names = _Names(keys)
    for name, weight in keys.items():
        if (found := names.diffusers(name)) is not None:
            yield _Module(weight, name, *found)


def _original_names(weights: Mapping[str, Shape]) -> dict[str, str]:
    """Name in the original code → key in the file, which may be in the layout of diffusers."""
    names = {key[: -len(_WEIGHT)]: key for key in weights if key.endswith(_WEIGHT)}
    if not is_diffusers(weights):
        return names
    levels = Levels(weights)
    found = ((levels.original(name), key) for name, key in names.items())
    return {name: key for name, key in found if name is not None}


class _Names:
    """Finds the name in diffusers. All names are needed for where the levels of the U-Net begin."""

    def __init__(self, names: Iterable[str]) -> None:
        downs: set[int] = set()
        ups: set[int] = set()
        for name in names:
            if name.startswith("input_blocks.") and name.endswith(".0.op"):
                downs |= _numbers(name)
            elif name.startswith("output_blocks.") and name.endswith(".conv"):
                ups |= _numbers(name)
        self._downs, self._ups = sorted(downs), sorted(ups)

    def diffusers(self, name: str) -> tuple[str, Kind] | None:
        """The name there and what it is; None where it is no module of a U-Net."""
        if (end := _ENDS.get(name)) is not None:
            return end
        part, _, rest = name.partition(".")
        if part == "middle_block":
            return _middle(rest)
        if part == "input_blocks" or part == "output_blocks":
            number, _, below = rest.partition(".")
            place, _, inner = below.partition(".")
            if is_number(number):
                outer = self._down if part == "input_blocks" else self._up
                return outer(int(number), place, inner)
        return None

    def _down(self, number: int, place: str, inner: str) -> tuple[str, Kind] | None:
        level = bisect_left(self._downs, number)
        if inner == "op":
            return f"down_blocks.{level}.downsamplers.0.conv", "conv"
        first = self._downs[level - 1] + 1 if level else 1
        return _inside(f"down_blocks.{level}", number - first, place, inner)

    def _up(self, number: int, place: str, inner: str) -> tuple[str, Kind] | None:
        level = bisect_left(self._ups, number)
        if inner == "conv":
            return f"up_blocks.{level}.upsamplers.0.conv", "conv"
        first = self._ups[level - 1] + 1 if level else 0
        return _inside(f"up_blocks.{level}", number - first, place, inner)


def _numbers(name: str) -> set[int]:
    """The number of the block that a name is in; empty where it has none."""
    number = name.split(".", 2)[1]
    return {int(number)} if is_number(number) else set()


def _middle(rest: str) -> tuple[str, Kind] | None:
    place, _, inner = rest.partition(".")
    if inner in _RESNET and place in ("0", "2"):
        return _inside("mid_block", int(place) // 2, "0", inner)
    return _inside("mid_block", 0, place, inner)


def _inside(outer: str, index: int, place: str, inner: str) -> tuple[str, Kind] | None:
    if (resnet := _RESNET.get(inner)) is not None:
        return f"{outer}.resnets.{index}.{resnet[0]}", resnet[1]
    kind = _attention_kind(inner)
    return None if kind is None or place != "1" else (f"{outer}.attentions.{index}.{inner}", kind)


def _attention_kind(inner: str) -> Kind | None:
    if ".attn1." in inner or ".attn2." in inner:
        return "attention"
    if ".ff." in inner:
        return "feed_forward"
    if inner in ("proj_in", "proj_out"):
        return "proj"
    if inner == "norm" or (inner.startswith("transformer_blocks.") and ".norm" in inner):
        return "norm"
    return None
