"""Transformers as tables: one rule a module, with its name in the original code and in diffusers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from contract.rules.block_numbers import is_number
from trainer.weights.names.site import Kind, Place, Rows, Shape

#: The rows and columns of a fused weight → how many rows each of its parts has.
Split = Callable[[int, int], tuple[int, ...]]
#: A number of a published model by its short name in the tables: d is the width, for example.
Sizes = Mapping[str, int]

_WEIGHT: Final = ".weight"


def thirds(rows: int, _: int) -> tuple[int, ...]:
    """q, k and v of one size."""
    return (rows // 3,) * 3


def grouped(rows: int, columns: int) -> tuple[int, ...]:
    """q as wide as the model, k and v share what is left: grouped-query attention."""
    return columns, (rows - columns) // 2, (rows - columns) // 2


def with_mlp(rows: int, columns: int) -> tuple[int, ...]:
    """q, k and v as wide as the model, and the first layer of the feed-forward in what is left."""
    return columns, columns, columns, rows - 3 * columns


def never(_: Shape) -> bool:
    """No module of these."""
    return False


def always(_: Shape) -> bool:
    """Every module of these."""
    return True


class Rule(NamedTuple):
    """A module: `*` in a name stands for the number of its block.

    `name` is its path in the original code, `diffusers` that there, or several where it is fused of them,
    in the order of its rows. `shape` is that of its weight at the published size, in short names of sizes.
    `generic` is its path in ComfyUI where that is another than `name`. `swapped`: whether the halves of its
    rows lie the other way round in diffusers. `parts`: kohya and generic adapters name the parts as diffusers
    does.
    """

    name: str
    diffusers: tuple[str, ...]
    kind: Kind
    shape: str
    split: Split = thirds
    generic: str | None = None
    swapped: Callable[[Shape], bool] = never
    parts: bool = False

    def fits(self, shape: Shape) -> bool:
        """Whether a weight can be this module: no file is believed for its names alone."""
        if len(shape) != len(self.shape.split()):
            return False
        if len(self.diffusers) == 1:
            return not self.swapped(shape) or shape[0] % 2 == 0
        sizes = self.split(shape[0], shape[1])
        return sum(sizes) == shape[0] and min(sizes) > 0

    def places(self, weight: str, number: str, block: str, shape: Shape) -> Iterator[Place]:
        """The whole module, and its parts where diffusers has several for it."""
        name = self.name.replace("*", number)
        generic = name if self.generic is None else self.generic.replace("*", number)
        inner = [path.replace("*", number) for path in self.diffusers]
        whole = Place(weight, block, self.kind, shape, name, None, generic)
        if len(inner) > 1:
            yield whole
            yield from self._parts(whole, inner)
        elif self.swapped(shape):
            yield whole
            yield whole._replace(kohya=None, peft=inner[0], generic=None, swapped=True)
        elif inner and self.parts:
            yield whole._replace(kohya=inner[0], peft=inner[0], generic=inner[0])
        else:
            yield whole._replace(peft=inner[0] if inner else None)

    def _parts(self, whole: Place, inner: Sequence[str]) -> Iterator[Place]:
        sizes = self.split(whole.shape[0], whole.shape[1])
        for path, rows in zip(inner, _rows(sizes), strict=True):
            shared = path if self.parts else None
            shape = (rows[1] - rows[0], *whole.shape[1:])
            yield whole._replace(kohya=shared, peft=path, generic=shared, rows=rows, shape=shape)


class Table:
    """The rules of a transformer. `blocks` gives the block of a module by its path in the original code."""

    def __init__(self, rules: Sequence[Rule], blocks: Callable[[str], str]) -> None:
        self.rules = rules
        self._blocks = blocks
        self._original = {name: rule for rule in rules for name in (rule.generic, rule.name) if name}
        self._diffusers = {path: rule for rule in rules for path in rule.diffusers}

    def layout(self, weights: Mapping[str, Shape]) -> Iterator[Place]:
        """The places for weights in the original layout, or in that of diffusers."""
        for weight, shape in weights.items():
            name = weight.removesuffix(_WEIGHT)
            if name == weight:
                continue
            general, number = _general(name)
            if (rule := self._original.get(name) or self._original.get(general)) is not None:
                if rule.fits(shape):
                    yield from rule.places(weight, number, self._blocks(name), shape)
            elif (rule := self._diffusers.get(name) or self._diffusers.get(general)) is not None:
                block = self._blocks(rule.name.replace("*", number))
                yield from _as_diffusers(rule, weight, name, block, shape)

    def published(self, counts: Mapping[str, int], sizes: Sizes) -> Iterator[tuple[str, Shape]]:
        """Every weight of a published model. `counts` are the numbers of blocks by what their names begin
        with; rules for which there is no count are left out."""
        for rule in self.rules:
            shape = tuple(_number(term, sizes) for term in rule.shape.split())
            if "*" not in rule.name:
                yield f"{rule.name}.weight", shape
            else:
                for number in range(counts.get(rule.name.partition("*")[0], 0)):
                    yield f"{rule.name.replace('*', str(number))}.weight", shape


def numbered(names: Mapping[str, str]) -> Callable[[str], str]:
    """Blocks by what a path begins with: {"double_blocks": "DOUBLE"} makes double_blocks.3.x DOUBLE03."""

    def block(name: str) -> str:
        general, number = _general(name)
        kind = names.get(general.partition(".*")[0])
        return "BASE" if kind is None else f"{kind}{int(number):02}"

    return block


def _as_diffusers(rule: Rule, weight: str, name: str, block: str, shape: Shape) -> Iterator[Place]:
    """The places of a weight that lies as diffusers has it: fused modules of the original code have none."""
    place = Place(weight, block, rule.kind, shape, None, name, None)
    if len(shape) != len(rule.shape.split()):
        return
    if len(rule.diffusers) == 1 and rule.swapped(shape):
        other = rule.generic or rule.name
        yield place
        yield place._replace(kohya=rule.name, peft=None, generic=other, swapped=True)
    elif rule.parts:
        yield place._replace(kohya=name, generic=name)
    elif len(rule.diffusers) == 1:
        number = _general(name)[1]
        original, generic = rule.name.replace("*", number), (rule.generic or rule.name).replace("*", number)
        yield place._replace(kohya=original, generic=generic)
    else:
        yield place


def _general(name: str) -> tuple[str, str]:
    """The name with `*` for its first number, and that number; the name and "" where it has none."""
    for part in name.split("."):
        if is_number(part):
            return name.replace(f".{part}", ".*", 1), part
    return name, ""


def _rows(sizes: Sequence[int]) -> Iterator[Rows]:
    start = 0
    for size in sizes:
        yield start, start + size
        start += size


def _number(term: str, sizes: Sizes) -> int:
    """`3d` is three times d, `64` is 64."""
    factor = term.rstrip("abcdefghijklmnopqrstuvwxyz")
    return int(factor or "1") * (sizes[term[len(factor) :]] if len(factor) < len(term) else 1)
