"""Block weights of checkpoint merges ("MBW"): the blocks of each family, which block a tensor belongs to, and
the presets that people know by name.

The layouts of Stable Diffusion follow "Merge Block Weighted" (bbc-mc's extension, after kohya-ss) and
SuperMerger, which all tools share: BASE is everything outside the U-Net, what stands before the input blocks
counts as the first of them, and what stands after the output blocks as the last of those.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from contract.rules.families import TITLES

BASE: Final = "BASE"


def _numbered(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{number:02}" for number in range(count))


#: BASE, 12 input blocks, the middle, 12 output blocks: SD1.5, SD2 and the refiner of SDXL.
UNET_26: Final = (BASE, *_numbered("IN", 12), "M00", *_numbered("OUT", 12))
#: The same with 9 and 9: SDXL.
UNET_20: Final = (BASE, *_numbered("IN", 9), "M00", *_numbered("OUT", 9))
#: BASE, the 28 blocks of the transformer, the 6 of the adapter between it and the text encoder.
ANIMA_35: Final = (BASE, *_numbered("BLOCK", 28), *_numbered("ADAPTER", 6))

#: Family → its blocks, in the order in which weights are listed.
LAYOUTS: Final[Mapping[str, tuple[str, ...]]] = {
    "sd15": UNET_26,
    "sd2": UNET_26,
    "sdxl": UNET_20,
    "sdxl_refiner": UNET_26,
    "anima": ANIMA_35,
}

#: A name in the U-Net: of a whole checkpoint, or of a file that is the U-Net alone.
_UNET: Final = re.compile(
    r"model\.diffusion_model\.|(?=(?:input_blocks|middle_block|output_blocks|time_embed|label_emb|out)\.)"
)
_UNET_BLOCK: Final = re.compile(r"(input_blocks|middle_block|output_blocks)\.(\d{1,4})\.")
_UNET_NAMES: Final = {"input_blocks": "IN", "output_blocks": "OUT"}
_ANIMA_BLOCK: Final = re.compile(r"(?:model\.diffusion_model\.|net\.)?(llm_adapter\.)?blocks\.(\d{1,4})\.")


class BlocksInvalid(ValueError):
    """Raised when block weights do not fit a family; the text is a sentence for people."""


def block_of(family: str, key: str) -> str:
    """The block of the tensor `key` in a single-file checkpoint of the original layout; BASE for the rest."""
    finder = _FINDERS.get(LAYOUTS.get(family, ()))
    return BASE if finder is None else finder(key, LAYOUTS[family])


def weights_by_block(family: str, blocks: Sequence[float] | str) -> dict[str, float]:
    """Block → weight, from one number a block or from the name of a preset. Raises BlocksInvalid."""
    layout = LAYOUTS.get(family)
    if layout is None:
        known = ", ".join(map(_title, LAYOUTS))
        raise BlocksInvalid(f"{_title(family)} has no layout of block weights; these have one: {known}.")
    values = _preset(family, layout, blocks) if isinstance(blocks, str) else blocks
    if len(values) != len(layout):
        raise BlocksInvalid(
            f"{_title(family)} has {len(layout)} block weights, here are {len(values)}; in this order: "
            f"{', '.join(layout)}."
        )
    return dict(zip(layout, values, strict=True))


def presets(family: str) -> dict[str, tuple[float, ...]]:
    """Name → values, in block order, of the presets that `family` has."""
    layout = LAYOUTS.get(family, ())
    return {name: values for name in _NAMES if (values := _values(name, layout)) is not None}


def _title(family: str) -> str:
    return TITLES.get(family, family)


def _preset(family: str, layout: tuple[str, ...], name: str) -> tuple[float, ...]:
    values = _values(name, layout)
    if values is None:
        known = ", ".join(presets(family))
        raise BlocksInvalid(f"{_title(family)} has no preset `{name}` of block weights; it has {known}.")
    return values


def _values(name: str, layout: tuple[str, ...]) -> tuple[float, ...] | None:
    if name in _FLAT and layout:
        base, rest = _FLAT[name]
        return (base, *([rest] * (len(layout) - 1)))
    if name not in _NAMES or layout not in (UNET_26, UNET_20):
        return None
    # SuperMerger's rule for SDXL: of the 26 values those whose blocks SDXL has, too.
    by_block = dict(zip(UNET_26, (0.0, *_unet(name)), strict=True))
    return tuple(by_block[block] for block in layout)


def _unet_block(key: str, layout: tuple[str, ...]) -> str:
    if (beginning := _UNET.match(key)) is None:
        return BASE
    if (found := _UNET_BLOCK.match(key, beginning.end())) is not None:
        name = "M00" if found[1] == "middle_block" else f"{_UNET_NAMES[found[1]]}{int(found[2]):02}"
        return name if name in layout else BASE
    return layout[-1] if key.startswith("out.", beginning.end()) else "IN00"


def _anima_block(key: str, layout: tuple[str, ...]) -> str:
    if (found := _ANIMA_BLOCK.match(key)) is None:
        return BASE
    name = f"{'ADAPTER' if found[1] else 'BLOCK'}{int(found[2]):02}"
    return name if name in layout else BASE


_FINDERS: Final[Mapping[tuple[str, ...], Callable[[str, tuple[str, ...]], str]]] = {
    UNET_26: _unet_block,
    UNET_20: _unet_block,
    ANIMA_35: _anima_block,
}

#: Presets that are one number for all blocks: of BASE, of the rest.
_FLAT: Final[Mapping[str, tuple[float, float]]] = {
    "ALL_A": (0.0, 0.0),
    "ALL_B": (1.0, 1.0),
    "FLAT_25": (0.0, 0.25),
    "FLAT_75": (0.0, 0.75),
}

#: Presets that are listed: 25 digits, IN00 to OUT11; h is one half.
_LISTED: Final[Mapping[str, str]] = {
    "WRAP08": "1111000000000000000001111",
    "WRAP12": "1111110000000000000111111",
    "WRAP14": "1111111000000000001111111",
    "WRAP16": "1111111100000000011111111",
    "MID12_50": "00000hhhhhhhhhhhhhh000000",
    "OUT07": "0000000000000000001111111",
    "OUT12": "0000000000000111111111111",
    "OUT12_5": "000000000000h111111111111",
    "RING08_SOFT": "00000h111h00000h111h00000",
    "RING08_5": "0000001111000001111000000",
    "RING10_5": "0000011111000001111100000",
    "RING10_3": "0000001111100011111000000",
}
_DIGITS: Final = {"0": 0.0, "h": 0.5, "1": 1.0}


def _smooth(x: float) -> float:
    return x * x * (3 - 2 * x)


def _zigzag(x: float) -> float:
    """0 at even numbers, 1 at odd ones, straight between."""
    return 1 - abs(1 - x % 2)


def _cubic(a: float, b: float, c: float, d: float) -> Callable[[float], float]:
    return lambda x: ((a * x + b) * x + c) * x + d


#: Presets that are a curve over x = 0 (IN00) to 1 (OUT11). The numbers of the two Hermite curves are those of
#: the cubics that SuperMerger's lists lie on; its "true" one leaves the curve at IN00, as `_unet` does.
_CURVES: Final[Mapping[str, Callable[[float], float]]] = {
    "GRAD_V": lambda x: abs(1 - 2 * x),
    "GRAD_A": lambda x: 1 - abs(1 - 2 * x),
    "SMOOTHSTEP": _smooth,
    "SMOOTHSTEP*2": lambda x: _zigzag(2 * _smooth(x)),
    "SMOOTHSTEP*3": lambda x: _zigzag(3 * _smooth(x)),
    "SMOOTHSTEP*4": lambda x: _zigzag(4 * _smooth(x)),
    "SMOOTHSTEP/2": lambda x: _smooth(_zigzag(2 * x)),
    "SMOOTHSTEP/3": lambda x: _smooth(_zigzag(3 * x)),
    "SMOOTHSTEP/4": lambda x: _smooth(_zigzag(4 * x)),
    "REVERSE_COSINE": lambda x: (1 - math.cos(math.pi * x)) / 2,
    "TRUE_CUBIC_HERMITE": _cubic(77 / 12, -77 / 8, 25 / 6, 1 / 24),
    "FAKE_CUBIC_HERMITE": _cubic(19 / 3, -19 / 2, 25 / 6, 0.0),
}
#: Presets that are another's values taken from 1.
_REVERSED: Final[Mapping[str, str]] = {
    "REVERSE-SMOOTHSTEP": "SMOOTHSTEP",
    "COSINE": "REVERSE_COSINE",
    **{f"R_SMOOTHSTEP{kind}": f"SMOOTHSTEP{kind}" for kind in ("*2", "*3", "*4", "/2", "/3", "/4")},
    "TRUE_REVERSE_CUBIC_HERMITE": "TRUE_CUBIC_HERMITE",
    "FAKE_REVERSE_CUBIC_HERMITE": "FAKE_CUBIC_HERMITE",
}
_NAMES: Final = (*_FLAT, *_LISTED, *_CURVES, *_REVERSED)


def _unet(name: str) -> list[float]:
    """The 25 values of a preset, IN00 to OUT11; BASE is 0 in all of them."""
    if name in _LISTED:
        return [_DIGITS[digit] for digit in _LISTED[name]]
    if name in _REVERSED:
        return [1 - value for value in _unet(_REVERSED[name])]
    values = [_CURVES[name](step / 24) for step in range(25)]
    return [0.0, *values[1:]] if name == "TRUE_CUBIC_HERMITE" else values
