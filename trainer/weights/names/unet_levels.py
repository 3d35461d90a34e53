"""Files of a U-Net in the layout of diffusers: what their keys are in the original layout.

The levels are counted from the keys: the original code numbers blocks through, diffusers within each level.
"""

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Final, NamedTuple

from contract.rules.block_numbers import is_number

_TOP: Final[Mapping[str, str]] = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET: Final[Mapping[str, str]] = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def is_diffusers(keys: Iterable[str]) -> bool:
    """Whether the keys are those of diffusers."""
    return any(key.startswith("down_blocks.") for key in keys)


class Levels:
    """How many blocks each level has, and with it the original names."""

    def __init__(self, keys: Iterable[str]) -> None:
        down: dict[int, int] = {}
        up: dict[int, int] = {}
        self._attends: set[str] = set()
        for key in keys:
            at = _place(key)
            if at is not None and at.sort == "resnets":
                counts = down if at.side == "down_blocks" else up
                counts[at.level] = max(counts.get(at.level, 0), at.number + 1)
            elif at is not None and at.sort == "attentions":
                self._attends.add(f"{at.side}.{at.level}")
        # Each level on the way down ends in one block that makes it smaller; the first block is conv_in.
        self._down = _starts(1, [count + 1 for _, count in sorted(down.items())])
        self._up = _starts(0, [count for _, count in sorted(up.items())])

    def original(self, name: str) -> str | None:
        """The original name of a module; None where it is no module of a U-Net."""
        if (top := _TOP.get(name)) is not None:
            return top
        if name.startswith("mid_block."):
            return _middle(name)
        at = _place(name)
        return None if at is None else self._block(at)

    def _block(self, at: "_Place") -> str | None:
        is_down = at.side == "down_blocks"
        starts = self._down if is_down else self._up
        if at.level + 1 >= len(starts):
            return None
        before, last = ("input_blocks" if is_down else "output_blocks"), starts[at.level + 1] - 1
        if at.sort == "downsamplers":
            return f"{before}.{last}.0.op"
        if at.sort == "upsamplers":
            return f"{before}.{last}.{2 if f'{at.side}.{at.level}' in self._attends else 1}.conv"
        return _inside(f"{before}.{starts[at.level] + at.number}", at.sort, at.inner)


class _Place(NamedTuple):
    """The parts of a name: down_blocks.1.attentions.0.proj_in."""

    side: str
    level: int
    sort: str
    number: int
    inner: str


def _place(name: str) -> _Place | None:
    parts = name.split(".", 4)
    if len(parts) < 5 or parts[0] not in ("down_blocks", "up_blocks"):
        return None
    side, level, sort, index, inner = parts
    return (
        _Place(side, int(level), sort, int(index), inner) if is_number(level) and is_number(index) else None
    )


def _starts(first: int, counts: list[int]) -> list[int]:
    """The number of the first block of each level, and of what would follow the last."""
    return list(accumulate(counts, initial=first))


def _middle(name: str) -> str | None:
    parts = name.split(".", 3)
    if len(parts) < 4 or parts[1:3] not in (["attentions", "0"], ["resnets", "0"], ["resnets", "1"]):
        return None
    if parts[1] == "attentions":
        return f"middle_block.1.{parts[3]}"
    found = _RESNET.get(parts[3])
    return None if found is None else f"middle_block.{2 * int(parts[2])}.{found}"


def _inside(block: str, sort: str, inner: str) -> str | None:
    if sort == "attentions":
        return f"{block}.1.{inner}"
    found = _RESNET.get(inner)
    return None if found is None else f"{block}.0.{found}"
