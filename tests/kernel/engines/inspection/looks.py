"""Files to look at, and looks at them without a kernel."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file

from contract.methods.inspect import InspectParams, InspectResult
from kernel.engines.inspection.inspect import Look
from tests.builders.adapters import Tensors
from trainer.weights.tensor_file import open_weights

_KEYS: Final = Path(__file__).parents[3] / "trainer" / "weights" / "names" / "keys"


def listed(name: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Every module of a published LoRA, with the shapes of its factors, `r` for the rank."""
    for line in (_KEYS / f"{name}-lora.tsv").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            module, down, up = line.split("\t")
            yield module, down.split(","), up.split(",")


def published_lora(name: str, *, rank: int = 1, alpha: float | None = 1.0) -> Tensors:
    """A LoRA with all modules of the list, at full size, of ones."""
    tensors: Tensors = {}
    for module, down, up in listed(name):
        for part, shape in (("down", down), ("up", up)):
            sizes = [rank if each == "r" else int(each) for each in shape]
            tensors[f"{module}.lora_{part}.weight"] = torch.ones(sizes, dtype=torch.float16)
        if alpha is not None:
            tensors[f"{module}.alpha"] = torch.tensor(alpha, dtype=torch.float16)
    return tensors


def write(folder: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> Path:
    """A file with these tensors."""
    path = folder / "x.safetensors"
    save_file(tensors, path, metadata)
    return path


def nothing() -> None:
    """Goes on."""


def look(path: Path, *, check: Callable[[], None] = nothing, **wanted: Any) -> InspectResult:
    """One look at a file."""
    with open_weights(str(path)) as file:
        return Look(file, check).result(InspectParams(file=str(path), **wanted))
