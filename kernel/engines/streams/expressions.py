"""How one tensor of the output is computed, as a tree: tensors of files, and what is made of them."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Final, Protocol

import torch

from contract.errors import WeightsNotFinite
from kernel.engines.streams.methods import Arguments, Method, Piece
from trainer.weights.dtypes import FLOATS
from trainer.weights.tensor_file import TensorFile

#: Numbers of a piece: as fp32 a megabyte, so that a few of them stay in the cache of a core.
PIECE: Final = 1 << 18


class Adds(Protocol):
    """What LoRAs change: see Deltas of kernel/engines/factors/deltas.py."""

    keys: frozenset[str]
    whole: frozenset[str]

    def add_(self, key: str, weight: torch.Tensor, first_row: int = 0) -> None: ...


class Expression:
    """A tensor that is computed when it is needed; `shape` is its shape.

    A tree may use one expression in several places: it is computed once.
    """

    shape: tuple[int, ...]
    inputs: tuple["Expression", ...] = ()
    #: Whether it must be known as a whole before a piece of it is.
    needs_whole: bool = False
    #: Whether something must be found out about the whole before a piece of it is known.
    looks: bool = False
    #: Pieces begin at multiples of so many numbers.
    grain: int = 1

    def piece(self, inputs: list[torch.Tensor], scratch: "Scratch") -> torch.Tensor:
        """The numbers `scratch.start` and following, fp32 [scratch.count], from those of the inputs."""
        raise NotImplementedError

    def nodes(self) -> Iterator["Expression"]:
        """Itself and all that it is made of, each once, from left to right."""
        waiting: list[Expression] = [self]
        seen: set[Expression] = set()
        while waiting:
            if (each := waiting.pop()) not in seen:
                seen.add(each)
                yield each
                waiting += reversed(each.inputs)

    def leaves(self) -> Iterator["Leaf"]:
        """The tensors of files that it is made of, each once, from left to right."""
        yield from (each for each in self.nodes() if isinstance(each, Leaf))

    @property
    def leaf(self) -> "Leaf":
        """The first of these."""
        each = self
        while each.inputs:
            each = each.inputs[0]
        assert isinstance(each, Leaf)
        return each


class Leaf(Expression):
    """A tensor of a file."""

    def __init__(self, file: TensorFile, key: str) -> None:
        self.file, self.key = file, key
        facts = file.header.tensors[key]
        self.shape, self.code = tuple(facts.shape), facts.dtype

    @property
    def is_float(self) -> bool:
        """Whether it has numbers that can be put together with others."""
        return self.code in FLOATS

    def stored(self) -> torch.Tensor:
        """The tensor as it lies in the file, [n]; not to be written to."""
        return self.file.tensor(self.key).reshape(-1)

    def piece(self, inputs: list[torch.Tensor], scratch: "Scratch") -> torch.Tensor:
        stored = scratch.stored(self)[scratch.start : scratch.start + scratch.count]
        return stored if stored.dtype == torch.float32 else scratch.take().copy_(stored)


class Held(Expression):
    """A tensor that is known already, fp32."""

    def __init__(self, value: torch.Tensor) -> None:
        self.shape, self.value = tuple(value.shape), value.reshape(-1)

    def piece(self, inputs: list[torch.Tensor], scratch: "Scratch") -> torch.Tensor:
        return self.value[scratch.start : scratch.start + scratch.count]


class Combined(Expression):
    """Tensors put together by a method."""

    def __init__(
        self, method: Method, arguments: Arguments, inputs: Sequence[Expression], about: Piece
    ) -> None:
        self.method, self.arguments, self.inputs = method, arguments, tuple(inputs)
        self.shape, self._about = about.shape, about
        self.needs_whole, self.looks, self.grain = method.needs_whole, method.looks, method.grain(about.shape)

    def piece(self, inputs: list[torch.Tensor], scratch: "Scratch") -> torch.Tensor:
        out = scratch.take()
        self.method.combine(inputs, out, self.arguments, self._about._replace(start=scratch.start))
        return out

    def whole(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """fp32 [shape] from inputs of the same form; the list is not the caller's any more."""
        return self.method.whole(inputs, self.arguments, self._about)

    def look(self, scratch: "Scratch") -> None:
        """Find out what must be known of the whole; nothing is left to settle in the inputs."""

        def read() -> Iterator[Sequence[torch.Tensor]]:
            for start, count in pieces(self):
                self._about.check()
                yield scratch.compute_all(self.inputs, start, count)

        facts = self.method.look(read, self.arguments, self._about)
        self._about, self.looks = self._about._replace(facts=facts), False


class Baked(Expression):
    """A tensor with what LoRAs change in it. Pieces are whole rows, and all of them where norms need that."""

    def __init__(self, inner: Expression, deltas: Adds, key: str) -> None:
        self.inputs, self.shape, self._deltas, self._key = (inner,), inner.shape, deltas, key
        self._row = max(prod(inner.shape[1:]), 1)
        self.grain = max(prod(inner.shape), 1) if key in deltas.whole else self._row

    def piece(self, inputs: list[torch.Tensor], scratch: "Scratch") -> torch.Tensor:
        out = scratch.take().copy_(inputs[0])
        self._deltas.add_(self._key, out.view(-1, *self.shape[1:]), scratch.start // self._row)
        return out


class Scratch:
    """The memory in which one thread computes, piece by piece."""

    def __init__(self) -> None:
        self.start = self.count = 0
        self._buffers: list[torch.Tensor] = []
        self._used = 0
        self._known: dict[Expression, torch.Tensor] = {}
        self._views: dict[Leaf, torch.Tensor] = {}

    def compute(self, expression: Expression, start: int, count: int) -> torch.Tensor:
        """fp32 [count]; it stays as it is until the next call."""
        return self.compute_all([expression], start, count)[0]

    def compute_all(self, expressions: Sequence[Expression], start: int, count: int) -> list[torch.Tensor]:
        """The same of several."""
        self.start, self.count, self._used = start, count, 0
        self._known.clear()
        return [self._value(each) for each in expressions]

    def stored(self, leaf: Leaf) -> torch.Tensor:
        """`leaf.stored()`, looked up once while the same tensors are being computed."""
        if leaf not in self._views:
            if len(self._views) >= _VIEWS:
                self._views.clear()
            self._views[leaf] = leaf.stored()
        return self._views[leaf]

    def take(self) -> torch.Tensor:
        """fp32 [count] to write to."""
        if self._used == len(self._buffers):
            self._buffers.append(torch.empty(0, dtype=torch.float32))
        if len(self._buffers[self._used]) < self.count:
            self._buffers[self._used] = torch.empty(max(self.count, PIECE), dtype=torch.float32)
        self._used += 1
        return self._buffers[self._used - 1][: self.count]

    def _value(self, expression: Expression) -> torch.Tensor:
        known = self._known.get(expression)
        if known is None:
            inputs = [self._value(each) for each in expression.inputs]
            known = self._known[expression] = expression.piece(inputs, self)
        return known


#: Views of files that a thread remembers; two or three belong to a tensor of the output.
_VIEWS: Final = 64


def pieces(expression: Expression) -> Iterator[tuple[int, int]]:
    """Start and count of the pieces in which `expression` is computed."""
    total, grain = prod(expression.shape), grain_of(expression)
    step = max(PIECE // grain, 1) * grain
    yield from ((start, min(step, total - start)) for start in range(0, total, step))


def grain_of(expression: Expression) -> int:
    """The largest grain in the tree; all are 1 or the size of a row."""
    return max(each.grain for each in expression.nodes())


def has_whole(expression: Expression) -> bool:
    """Whether anything in the tree must be known as a whole."""
    return any(each.needs_whole for each in expression.nodes())


def is_settled(expression: Expression) -> bool:
    """Whether pieces can be computed as it is."""
    return not any(each.needs_whole or each.looks for each in expression.nodes())


def settled(expression: Expression, scratch: Scratch, device: torch.device) -> Expression:
    """`expression` with everything computed or found out that pieces depend on. Raises WeightsNotFinite."""
    done: dict[Expression, Expression] = {}

    def settle(each: Expression) -> Expression:
        if each not in done:
            done[each] = made(each)
        return done[each]

    def made(each: Expression) -> Expression:
        inputs = tuple(settle(one) for one in each.inputs)
        if isinstance(each, Combined) and each.needs_whole:
            values = [whole(one, scratch, of).to(device) for one, of in zip(inputs, each.inputs, strict=True)]
            return Held(each.whole(values).to("cpu"))
        if inputs == each.inputs and not each.looks:
            return each
        changed = _with_inputs(each, inputs)
        if isinstance(changed, Combined) and changed.looks:
            changed.look(scratch)
        return changed

    return settle(expression)


def _with_inputs(expression: Expression, inputs: tuple[Expression, ...]) -> Expression:
    """Another of the same kind."""
    changed = object.__new__(type(expression))
    vars(changed).update(vars(expression), inputs=inputs)
    return changed


def whole(expression: Expression, scratch: Scratch, of: Expression) -> torch.Tensor:
    """fp32 [shape], not to be written to, of a tree in which nothing is left to settle; `of` is that tree
    before it was settled.

    Raises WeightsNotFinite: a median or a rank would hide a number that is none.
    """
    if isinstance(expression, Held):
        return expression.value.view(expression.shape)
    if isinstance(expression, Leaf):
        value = expression.stored().float()
    else:
        value = torch.empty(prod(expression.shape), dtype=torch.float32)
        for start, count in pieces(expression):
            value[start : start + count] = scratch.compute(expression, start, count)
    if not is_finite(value):
        raise not_finite(of)
    return value.view(expression.shape)


def is_finite(values: torch.Tensor) -> bool:
    """Whether no number of it is NaN or infinite."""
    return largest(values) < float("inf")


def largest(values: torch.Tensor) -> float:
    """The largest absolute value; NaN where there is one, 0 where there are none."""
    if not values.numel():
        return 0.0
    least, most = torch.aminmax(values)
    return max(-float(least), float(most)) if least == least else float("nan")


def not_finite(expression: Expression) -> WeightsNotFinite:
    """The error that names the input at fault; where all are finite, the numbers grew too large."""
    for leaf in expression.leaves():
        if leaf.is_float and not is_finite(leaf.stored().float()):
            return WeightsNotFinite(
                f"`{leaf.key}` in `{leaf.file.where}` has NaN or infinite numbers.",
                where=leaf.file.where,
                details={"key": leaf.key},
                hint="The model was damaged in its training or by a merge; use another copy of it.",
            )
    leaf = expression.leaf
    return WeightsNotFinite(
        f"`{leaf.key}` becomes infinite in this merge: its numbers grow too large.",
        where=leaf.file.where,
        details={"key": leaf.key},
        hint="Look at the weights; they are factors, not percentages.",
    )
