"""Re-basin: the channels of one model brought into the order of another's, then the weighted sum.

Source: Ainsworth and others, "Git Re-Basin: merging models modulo permutation symmetries", ICLR 2023, weight
matching. Only the permutations are used that leave the function of Stable Diffusion 1.5 exactly as it is:
the inner channels of residual blocks (within and among the 32 groups of their norm), the inner channels of
feed-forwards, the heads of attentions and the channels within a head. They do not depend on each other, so
each is matched once, to the optimum; the channels between blocks, which skip connections tie together, stay.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Final, NamedTuple

import torch

from contract.errors import DependencyMissing
from kernel.engines.streams.methods.method import Arguments, Method, Piece
from kernel.engines.streams.parts import ema_name

#: Groups of every GroupNorm of the U-Net and the VAE, and heads of every attention of the U-Net.
_NORM_GROUPS: Final = 32
_UNET_HEADS: Final = 8
#: Width and heads of the text encoder, CLIP ViT-L/14.
_CLIP_WIDTH: Final = 768
_CLIP_HEADS: Final = 12

#: A tensor, and which of its axes has the channels.
Axis = tuple[str, int]
#: (name, axis) → for every place on the axis, the place of the second model that belongs there.
Orders = dict[Axis, torch.Tensor]
Read = Callable[[int, str], torch.Tensor]


class Channels(NamedTuple):
    """Channels that may be put into another order together: `blocks` of them may change places as wholes, and
    within each the channels of every set of `sets` have an order of their own.

    `copies`: the axis has the channels that many times over (value and gate of a GEGLU).
    """

    blocks: int
    sets: tuple[tuple[Axis, ...], ...]
    copies: int = 1


class Rebasin(Method):
    """(1 − α)·A + α·π(B), with π the order of B's channels in which its weights are most like A's. Averages
    of weights (EMA) are put into the order of the weights.
    """

    name = "rebasin"
    needs_whole = True

    def __init__(self) -> None:
        self._channels: dict[str, list[Channels]] | None = None
        self._averages: dict[str, str] = {}
        self._orders: dict[Channels, Orders] = {}
        self._matching: defaultdict[Channels, Lock] = defaultdict(Lock)
        self._reading = Lock()

    def refusal(self, family: str | None) -> str | None:
        if family == "sd15":
            return None
        return (
            f"re-basin is defined for sd15 only; the permutations of {family or 'this model'} are not known"
        )

    def whole(self, inputs: Sequence[torch.Tensor], arguments: Arguments, piece: Piece) -> torch.Tensor:
        a, b = inputs
        for channels in self._channels_of(piece):
            piece.check()
            for (name, axis), order in self._orders_of(channels, piece).items():
                if name == self._averages.get(piece.name, piece.name):
                    b = b.index_select(axis, order.to(b.device))
        return torch.lerp(a, b, arguments.alpha)

    def _channels_of(self, piece: Piece) -> Sequence[Channels]:
        with self._reading:
            if self._channels is None:
                shapes = piece.shapes
                self._channels = _by_tensor(shapes)
                self._averages = {
                    ema_name(name): name
                    for name in self._channels
                    if shapes.get(ema_name(name)) == shapes[name]
                }
        return self._channels.get(self._averages.get(piece.name, piece.name), [])

    def _orders_of(self, channels: Channels, piece: Piece) -> Orders:
        """Matched once, however many threads have a tensor with these channels."""
        assert piece.whole is not None
        with self._reading:
            matching = self._matching[channels]
        with matching:
            if channels not in self._orders:
                self._orders[channels] = match(channels, piece.whole)
            return self._orders[channels]


def _by_tensor(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, list[Channels]]:
    found: dict[str, list[Channels]] = {}
    for channels in all_channels(shapes):
        for name in dict.fromkeys(name for axes in channels.sets for name, _ in axes):
            found.setdefault(name, []).append(channels)
    return found


def all_channels(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Channels]:
    """All channels of the model that can be put into another order."""
    for name, shape in shapes.items():
        for pattern, make in _RULES if shape else ():
            if (found := pattern.fullmatch(name)) is not None:
                channels = make(found[1], shape, shapes)
                if channels is not None and _agree(channels, shapes):
                    yield channels
                break


def _agree(channels: Channels, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether the tensors have as many channels as each other, as those of a sound model do."""
    axes = [axis for each in channels.sets for axis in each]
    if not all(channels.sets) or any(axis >= len(shapes[name]) for name, axis in axes):
        return False
    sizes = {shapes[name][axis] / (channels.copies if axis == 0 else 1) for name, axis in axes}
    size = sizes.pop()
    return not sizes and size > 0 and size.is_integer()


Make = Callable[[str, tuple[int, ...], Mapping[str, tuple[int, ...]]], Channels | None]


def _axes(shapes: Mapping[str, tuple[int, ...]], outs: Sequence[str], ins: Sequence[str]) -> tuple[Axis, ...]:
    """The rows of `outs`, weights and biases, and the columns of `ins`, as far as they are there."""
    rows = [(f"{name}.{kind}", 0) for name in outs for kind in ("weight", "bias")]
    columns = [(f"{name}.weight", 1) for name in ins]
    return tuple(axis for axis in (*rows, *columns) if axis[0] in shapes)


def _residual(outs: Sequence[str], last: str) -> Make:
    def make(prefix: str, shape: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]) -> Channels | None:
        if shape[0] % _NORM_GROUPS:
            return None
        axes = _axes(shapes, [f"{prefix}{name}" for name in outs], [f"{prefix}{last}"])
        return Channels(_NORM_GROUPS, (axes,))

    return make


def _feed_forward(first: str, last: str, copies: int) -> Make:
    def make(prefix: str, shape: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]) -> Channels | None:
        return Channels(1, (_axes(shapes, [f"{prefix}{first}"], [f"{prefix}{last}"]),), copies)

    return make


def _attention(query_key: Sequence[str], value: str, out: str, heads: int, width: int | None = None) -> Make:
    def make(prefix: str, shape: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]) -> Channels | None:
        if shape[0] % heads or width not in (None, shape[0]):
            return None
        alike = _axes(shapes, [f"{prefix}{name}" for name in query_key], [])
        passed = _axes(shapes, [f"{prefix}{value}"], [f"{prefix}{out}"])
        return Channels(heads, (alike, passed))

    return make


#: In a whole checkpoint, or in a file that is the U-Net alone.
_UNET: Final = r"((?:model\.diffusion_model\.)?(?:input_blocks|middle_block|output_blocks)\..*\."
_RULES: Final[Sequence[tuple[re.Pattern[str], Make]]] = (
    (
        re.compile(_UNET + r")in_layers\.2\.weight"),
        _residual(("in_layers.2", "emb_layers.1", "out_layers.0"), "out_layers.3"),
    ),
    (re.compile(_UNET + r"ff\.net\.)0\.proj\.weight"), _feed_forward("0.proj", "2", copies=2)),
    (
        re.compile(_UNET + r"attn[12]\.)to_q\.weight"),
        _attention(("to_q", "to_k"), "to_v", "to_out.0", _UNET_HEADS),
    ),
    (
        re.compile(r"(cond_stage_model\..*\.mlp\.)fc1\.weight"),
        _feed_forward("fc1", "fc2", copies=1),
    ),
    (
        re.compile(r"(cond_stage_model\..*\.self_attn\.)q_proj\.weight"),
        _attention(("q_proj", "k_proj"), "v_proj", "out_proj", _CLIP_HEADS, _CLIP_WIDTH),
    ),
    (re.compile(r"(first_stage_model\..*\.)conv1\.weight"), _residual(("conv1", "norm2"), "conv2")),
    (re.compile(r"(first_stage_model\..*\.attn_1\.)q\.weight"), _attention(("q", "k"), "v", "proj_out", 1)),
)


def match(channels: Channels, read: Read) -> Orders:
    """The order of the second model's channels that makes the sum of the products of both models' weights
    largest. Raises DependencyMissing.
    """
    count = channels.copies
    orders = _ordered([_likeness(axes, count, read) for axes in channels.sets], channels.blocks)
    found: Orders = {}
    for axes, order in zip(channels.sets, orders, strict=True):
        for name, axis in axes:
            copies = count if axis == 0 else 1
            found[name, axis] = torch.cat([order + copy * len(order) for copy in range(copies)])
    return found


def _likeness(axes: Sequence[Axis], copies: int, read: Read) -> torch.Tensor:
    """float64 [n, n]: the inner product of each channel of A with each of B over all tensors of a set."""
    (name, axis), *others = axes
    found = _products(read(0, name), read(1, name), axis, copies)
    for name, axis in others:
        found += _products(read(0, name), read(1, name), axis, copies)
    return found.double().cpu()


def _products(a: torch.Tensor, b: torch.Tensor, axis: int, copies: int) -> torch.Tensor:
    """fp32 [n, n]: the same of one tensor."""
    copies = copies if axis == 0 else 1
    a, b = (each.movedim(axis, 0).reshape(copies, each.shape[axis] // copies, -1) for each in (a, b))
    return torch.matmul(a, b.transpose(1, 2)).sum(0)


def _ordered(likeness: Sequence[torch.Tensor], blocks: int) -> list[torch.Tensor]:
    """For each matrix [n, n], the order of its columns, when `blocks` equal runs of them stay together."""
    size = len(likeness[0]) // blocks
    inner = [
        [
            [_assigned(each[a * size : (a + 1) * size, b * size : (b + 1) * size]) for b in range(blocks)]
            for a in range(blocks)
        ]
        for each in likeness
    ]
    gains = torch.zeros(blocks, blocks, dtype=torch.float64)
    for of_set in inner:
        gains += torch.tensor([[gain for _, gain in row] for row in of_set], dtype=torch.float64)
    places, _ = _assigned(gains)
    return [
        torch.cat([of_set[a][b][0] + b * size for a, b in enumerate(places.tolist())]) for of_set in inner
    ]


def _assigned(gains: torch.Tensor) -> tuple[torch.Tensor, float]:
    """For each row the column that it gets, when the sum is largest, and that sum. `gains` is not kept."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise DependencyMissing(
            "Re-basin needs scipy, which is not installed.", hint="Install it: pip install scipy."
        ) from None
    if len(gains) == 1:
        return torch.zeros(1, dtype=torch.long), float(gains)
    # To ask for the largest sum makes scipy copy them all.
    costs = gains.neg_().numpy()
    rows, columns = linear_sum_assignment(costs)
    return torch.from_numpy(columns), -float(costs[rows, columns].sum())
