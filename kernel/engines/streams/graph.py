"""A graph of checkpoints and steps: for every tensor name of its output, how that tensor is computed.

Nothing is read here but names and shapes. A node is asked for one tensor at a time and asks its inputs, so
that only what the output needs is ever looked at.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

import torch

from contract.errors import WeightsIncomplete, WeightsMismatch, WeightsUnsupported
from contract.rules.blocks import block_of
from contract.rules.families import detect
from kernel.engines.streams.expressions import Adds, Baked, Combined, Expression, Leaf
from kernel.engines.streams.methods import Arguments, Method, Piece
from kernel.engines.streams.parts import (
    UNET,
    PartName,
    ema_name,
    is_ema_setting,
    is_table,
    part_of,
    quantised,
    spelled,
)
from trainer.weights.tensor_file import TensorFile

#: How many names a message lists.
_NAMED: Final = 3
Tensors = Callable[[str], Expression | None]


class Node(Protocol):
    """Something that has tensors: a model, or what is made of models."""

    @property
    def names(self) -> Sequence[str]:
        """Its tensors, in the order of the first model that has each."""
        ...

    def tensor(self, name: str) -> Expression | None:
        """How the tensor is computed; None where it has none of the name."""
        ...


class Model:
    """A checkpoint. Its tensors are found under either spelling of their names.

    With `use_ema` its U-Net weights are their averages, as far as it has any. `used_ema` says whether.
    """

    def __init__(self, file: TensorFile, kind: str = "checkpoint", *, use_ema: bool = False) -> None:
        """Raises WeightsUnsupported for quantised weights, WeightsIncomplete where averages are missing."""
        self.file, self.kind = file, kind
        if (sign := quantised(file.header.tensors)) is not None:
            raise WeightsUnsupported(
                f"`{file.where}` is quantised: `{sign}` belongs to weights that mean nothing without it.",
                where=file.where,
                details={"key": sign},
                hint="Merge the model that it was made from.",
            )
        self.names: list[str] = [
            name for name in file.header.tensors if not is_ema_setting(name) or not use_ema
        ]
        self._keys = {spelled(name): name for name in self.names}
        self.used_ema = use_ema and any(part_of(name) == "ema" for name in self.names)
        if self.used_ema:
            self._use_averages()

    def tensor(self, name: str) -> Expression | None:
        key = self._keys.get(spelled(name))
        return None if key is None else Leaf(self.file, key)

    def _use_averages(self) -> None:
        tensors = self.file.header.tensors
        self.names = [name for name in self.names if part_of(name) != "ema"]
        for name in self.names:
            if not name.startswith(UNET):
                continue
            average = ema_name(name)
            if average not in tensors:
                raise WeightsIncomplete(
                    f"`{self.file.where}` has EMA weights, but none of `{name}`.",
                    where=self.file.where,
                    details={"key": name, "missing": average},
                )
            self._keys[name] = average


class Step:
    """Nodes put together by a method. `arguments` gives the parameters for a block.

    A tensor that not all nodes have is the first one's that has it; `partial` names those. Tables beside the
    networks, and whole numbers, are the first one's.
    """

    def __init__(
        self,
        method: Method,
        inputs: Sequence[Node],
        arguments: Callable[[str], Arguments],
        family: str | None,
        kind: str = "checkpoint",
        check: Callable[[], None] = lambda: None,
        whole: Callable[[Expression], torch.Tensor] | None = None,
    ) -> None:
        self.names: list[str] = list(dict.fromkeys(_spelled_names(inputs)))
        self.partial: list[str] = []
        self._method, self._inputs, self._arguments = method, inputs, arguments
        self._family, self._kind, self._check, self._whole = family, kind, check, whole
        self._blocks = _Blocks(family, self.names)
        self._known: dict[str, Expression | None] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def tensor(self, name: str) -> Expression | None:
        """Raises WeightsMismatch where the shapes differ, or one has whole numbers and another has none."""
        if name not in self._known:
            self._known[name] = self._made(name)
        return self._known[name]

    def _made(self, name: str) -> Expression | None:
        found = [each for node in self._inputs if (each := node.tensor(name)) is not None]
        if not found:
            return None
        leaf = found[0].leaf
        if is_table(name, self._kind):
            return found[0]
        _check_alike(name, found)
        if not leaf.is_float or 0 in found[0].shape:
            return found[0]
        if len(found) < len(self._inputs):
            self.partial.append(name)
            return found[0]
        about = Piece(name, found[0].shape, check=self._check, whole=self._read, shapes=self._all_shapes())
        return Combined(self._method, self._arguments(self._blocks.of(name)), found, about)

    def _all_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of the tensors that all inputs have; only methods that look at other tensors want to know."""
        if not self._shapes and self._method.needs_whole:
            for name in self.names:
                found = [node.tensor(name) for node in self._inputs]
                shapes = {each.shape for each in found if each is not None}
                if len(shapes) == 1 and None not in found:
                    self._shapes[name] = shapes.pop()
        return self._shapes

    def _read(self, index: int, name: str) -> torch.Tensor:
        expression = self._inputs[index].tensor(name)
        assert expression is not None and self._whole is not None
        return self._whole(expression)


class _Blocks:
    """Block of every tensor; that of an average is the block of its weight."""

    def __init__(self, family: str | None, names: Iterable[str]) -> None:
        self._family = family
        self._weights = {ema_name(name): name for name in names if name.startswith(UNET)}

    def of(self, name: str) -> str:
        return block_of(self._family or "", self._weights.get(name, name))


class Bake:
    """A node with what LoRAs change in it."""

    def __init__(self, inner: Node, deltas: Adds) -> None:
        self.names: Sequence[str] = inner.names
        self._inner, self._deltas = inner, deltas
        self._keys = {spelled(key): key for key in deltas.keys}
        self._known: dict[str, Expression | None] = {}

    def tensor(self, name: str) -> Expression | None:
        if name not in self._known:
            inner, key = self._inner.tensor(name), self._keys.get(spelled(name))
            changed = inner is not None and key is not None
            self._known[name] = Baked(inner, self._deltas, key) if inner and key and changed else inner
        return self._known[name]


class Parts:
    """A node, some parts of which are another's, or nobody's (None)."""

    def __init__(self, inner: Node, others: Mapping[PartName, Node | None], kind: str = "checkpoint") -> None:
        nodes = [inner, *(each for each in others.values() if each is not None)]
        self._inner, self._others, self._kind = inner, others, kind
        self.names: list[str] = [
            name
            for name in dict.fromkeys(_spelled_names(nodes))
            if (node := self._node(name)) is not None and node.tensor(name) is not None
        ]

    def tensor(self, name: str) -> Expression | None:
        node = self._node(name)
        return None if node is None else node.tensor(name)

    def _node(self, name: str) -> Node | None:
        return self._others.get(part_of(name, self._kind), self._inner)


class Vae:
    """The tensors of a VAE's own file, under the names that they have in a checkpoint."""

    def __init__(
        self, file: TensorFile, prefix: str, wanted: Iterable[str], family: str | None = None
    ) -> None:
        """`wanted` are the names that the checkpoint has, if it has a VAE.

        Raises WeightsMismatch where the file lacks one of them, has nothing of a VAE, is in the layout of
        diffusers, or is a VAE of other families.
        """
        _check_vae(file, family)
        self._leaves = {
            f"{prefix}{bare}": Leaf(file, key)
            for key in file.header.tensors
            if (bare := _bare_vae(key)) is not None
        }
        self.names: list[str] = list(self._leaves)
        missing = [name for name in wanted if name not in self._leaves] or ([] if self.names else [prefix])
        if missing:
            raise WeightsMismatch(
                f"`{file.where}` is no VAE for this model: it has no `{missing[0].removeprefix(prefix)}`.",
                where=file.where,
                details={"key": missing[0], "missing": len(missing)},
                hint="It takes a VAE in the layout of single-file checkpoints, of the same family.",
            )

    def tensor(self, name: str) -> Expression | None:
        return self._leaves.get(name)


def check_shape(name: str, first: Expression, other: Expression) -> None:
    """Raises WeightsMismatch, naming the tensor and both files."""
    if first.shape == other.shape:
        return
    files = [each.leaf.file for each in (first, other)]
    raise WeightsMismatch(
        f"`{name}` is {list(first.shape)} in `{files[0].where}` and {list(other.shape)} in "
        f"`{files[1].where}`.",
        where=files[1].where,
        details={
            "key": name,
            "shapes": [list(first.shape), list(other.shape)],
            "files": [each.where for each in files],
        },
        hint="Models of one family can differ: inpainting models have more input channels.",
    )


def listed(names: Sequence[str]) -> str:
    """The first few of `names`, for a message."""
    more = "" if len(names) <= _NAMED else " …"
    return ", ".join(f"`{name}`" for name in names[:_NAMED]) + more


def _check_alike(name: str, found: Sequence[Expression]) -> None:
    first = found[0].leaf
    for other in found[1:]:
        check_shape(name, found[0], other)
        leaf = other.leaf
        if leaf.is_float != first.is_float:
            raise WeightsMismatch(
                f"`{name}` is {first.code} in `{first.file.where}` and {leaf.code} in `{leaf.file.where}`: "
                "whole numbers and weights cannot be put together.",
                where=leaf.file.where,
                details={"key": name, "dtypes": [first.code, leaf.code]},
                hint="Whole numbers in the place of weights are quantised ones; merge the original model.",
            )


def _spelled_names(nodes: Iterable[Node]) -> Iterable[str]:
    """The names of all, each once, in the spelling of the first that has it."""
    seen: set[str] = set()
    for node in nodes:
        for name in node.names:
            if (one := spelled(name)) not in seen:
                seen.add(one)
                yield name


def _check_vae(file: TensorFile, family: str | None) -> None:
    """Raises WeightsMismatch for what has the names of a VAE, and is none for the family."""
    tensors = file.header.tensors
    why, sign = "", next((name for name in tensors if _DIFFUSERS.search(name)), None)
    if sign is not None:
        why = "it is in the layout of diffusers"
    else:
        found = detect({name: tensor.shape for name, tensor in tensors.items()}, file.header.metadata)
        if family is not None and found.candidates and family not in found.candidates:
            why, sign = f"it belongs to {', '.join(found.candidates)}", found.evidence[0].sign
    if sign is not None:
        raise WeightsMismatch(
            f"`{file.where}` is no VAE for this model: {why}.",
            where=file.where,
            details={"key": sign},
            hint="It takes a VAE in the layout of single-file checkpoints, of the same family.",
        )


#: A name of a VAE in the layout of diffusers.
_DIFFUSERS: Final = re.compile(r"(?:^|\.)(?:encoder|decoder)\.(?:down_blocks|mid_block|up_blocks)\.")
_VAE_PREFIXES: Final = ("first_stage_model.", "vae.", "")
_VAE_CHILDREN: Final = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")


def _bare_vae(key: str) -> str | None:
    """The name within the VAE; None for what is none of it, as the loss it was trained with."""
    bare = next(key.removeprefix(prefix) for prefix in _VAE_PREFIXES if key.startswith(prefix))
    return bare if bare.startswith(_VAE_CHILDREN) else None
