"""Merges of small LoRAs for the tests: what goes in, what comes out, and the exact sum."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file

from contract.methods.merge import LoraMerge, MergeOutcome, WeightedLora
from contract.methods.weights import WeightsFile
from kernel.engines.factors.merging import merge_loras
from tests.builders import adapters
from tests.builders.adapters import Tensors
from tests.builders.surgery import surgery

#: Names of SDXL, the shapes small: what is merged are factors, whatever model they are for.
METADATA = {"ss_base_model_version": "sdxl_base_v1-0"}
LINEAR = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
OTHER = "lora_unet_output_blocks_1_1_transformer_blocks_0_attn2_to_v"
POINT = "lora_unet_input_blocks_4_0_skip_connection"
CONV = "lora_unet_input_blocks_1_0_in_layers_2"
TEXT = "lora_te2_text_model_encoder_layers_0_mlp_fc1"
SHAPES: dict[str, tuple[int, ...]] = {
    LINEAR: (48, 64),
    OTHER: (40, 32),
    POINT: (24, 16, 1, 1),
    CONV: (20, 12, 3, 3),
    TEXT: (56, 24),
}


class Merged(NamedTuple):
    """The outcome, the tensors of the output, and its path."""

    outcome: MergeOutcome
    tensors: Tensors
    path: Path

    def delta(self, name: str) -> torch.Tensor:
        """ΔW of a module of the output."""
        return adapters.dense(self.tensors, name)

    def error(self, name: str) -> float:
        """What the outcome says of a module."""
        return next(module.error for module in self.outcome.modules if module.name == name)


def some_lora(seed: int, rank: int, names: list[str] | None = None, **options: Any) -> Tensors:
    """Modules of every shape; alpha is half of the rank unless it is given."""
    options = {"alpha": rank / 2} | options
    tensors: Tensors = {}
    for index, name in enumerate(SHAPES if names is None else names):
        tensors |= adapters.lora(name, SHAPES[name], rank, seed=100 * seed + index, **options)
    return tensors


def merge(
    folder: Path,
    loras: list[tuple[Tensors, Any]],
    method: str = "concat",
    metadata: dict[str, str] | None = METADATA,
    **settings: Any,
) -> Merged:
    """Merge LoRAs; with each comes its weight, or a mapping of fields of WeightedLora."""
    weighted = []
    for index, (tensors, weight) in enumerate(loras):
        path = adapters.write(folder / f"{index}.safetensors", tensors, metadata)
        fields = weight if isinstance(weight, Mapping) else {"weight": weight}
        weighted.append(WeightedLora(model=WeightsFile(path=str(path)), **fields))
    with surgery(folder, overwrite=True) as job:
        outcome = merge_loras(LoraMerge(loras=weighted, method=method, **settings), job)  # type: ignore[arg-type]
    path = folder / "out.safetensors"
    return Merged(outcome, load_file(path), path)


def exact_sum(loras: list[tuple[Tensors, float]], name: str) -> torch.Tensor:
    """Σ weight · ΔW of a module, in float64."""
    found = [
        weight * adapters.dense(tensors, name, SHAPES[name])
        for tensors, weight in loras
        if name in adapters.modules_of(tensors)
    ]
    return torch.stack(found).sum(dim=0)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative Frobenius error."""
    return float((found - expected).norm() / expected.norm())
