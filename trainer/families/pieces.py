"""From tensors in files to a module in memory: which piece of which file each of its parameters is.

The module is made without memory, compared with the headers, and only then are tensors read, one after the
other, each into memory of its own: nothing stays mapped, and the alignment of tensors in a file, which moves
the last bits of products, makes no difference.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from contract.errors import WeightsIncomplete, WeightsMismatch, WeightsUnsupported
from trainer.weights.tensor_file import TensorFile

if TYPE_CHECKING:
    import torch
    from torch import nn

Shape = tuple[int, ...]


class Piece(NamedTuple):
    """A tensor of a file, or some `rows` of it, `turned` (transposed) or not, seen in a `shape`."""

    file: TensorFile
    key: str
    shape: Shape
    rows: tuple[int, int] | None = None
    turned: bool = False

    def read(self, dtype: "torch.dtype", device: str) -> "torch.Tensor":
        """A copy of its numbers. Raises WeightsChanged and WeightsUnsupported."""
        tensor = self.file.tensor(self.key)
        if self.rows is not None:
            tensor = tensor[slice(*self.rows)]
        if self.turned:
            tensor = tensor.T
        return tensor.reshape(self.shape).to(device=device, dtype=dtype, copy=True).contiguous()


#: Parameter → where its numbers are.
Layout = Mapping[str, Piece]


def piece(file: TensorFile, key: str) -> Piece:
    """All of a tensor."""
    return Piece(file, key, tuple(file.header.tensors[key].shape))


def shapes(layout: Layout) -> dict[str, Shape]:
    """The shape of each parameter."""
    return {name: found.shape for name, found in layout.items()}


def without_memory(make: "Callable[[], nn.Module]") -> "nn.Module":
    """A module whose parameters are on the meta device; no random number is drawn."""
    import torch

    with torch.device("meta"):
        module = make()
    return module.requires_grad_(False).eval()


def check(module: "nn.Module", layout: Layout, where: str) -> None:
    """Compare a module with what there is for it. Raises WeightsIncomplete, WeightsMismatch, and
    WeightsUnsupported where there is more than it has parameters."""
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    if missing := [name for name in wanted if name not in layout]:
        raise WeightsIncomplete(
            f"`{where}` is not whole: it has nothing for `{missing[0]}`{_more(missing)}.",
            where=where,
            details={"key": missing[0]},
        )
    for name, found in layout.items():
        if name not in wanted:
            raise WeightsUnsupported(
                f"`{found.key}` in `{where}` has no place in a model of this family.",
                where=where,
                details={"key": found.key},
            )
        if found.shape != wanted[name]:
            raise WeightsMismatch(
                f"`{found.key}` in `{where}` is {_size(found.shape)} and should be {_size(wanted[name])}.",
                where=where,
                details={"key": found.key},
            )


def fill(module: "nn.Module", layout: Layout, dtype: "torch.dtype", device: str) -> None:
    """Read every parameter of a module that was made without memory and checked."""
    from torch.nn import Parameter

    read: set[str] = set()
    # `load_state_dict` would take as long as reading a small model does.
    for path, inside in module.named_modules():
        for name, _ in list(inside.named_parameters(recurse=False)):
            whole = f"{path}.{name}" if path else name
            inside.register_parameter(name, Parameter(layout[whole].read(dtype, device), requires_grad=False))
            read.add(whole)
    if others := {name: found.read(dtype, device) for name, found in layout.items() if name not in read}:
        module.load_state_dict(others, strict=False, assign=True)
    # Parameters are there already; what else a module counts with follows them.
    module.to(device)


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _size(shape: Shape) -> str:
    return " × ".join(map(str, shape)) or "a single number"
