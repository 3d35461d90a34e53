"""‖ΔW‖ by the factors, held against ΔW itself in float64."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kernel.engines.inspection.norms import norm, together
from tests.builders import adapters
from tests.kernel.engines.inspection.looks import write
from trainer.weights.adapter_file import read_adapter
from trainer.weights.tensor_file import open_weights

_CASES: dict[str, Callable[[], adapters.Tensors]] = {
    "lora": lambda: adapters.lora("m", (40, 30), 8, alpha=3.0),
    "lora without alpha": lambda: adapters.lora("m", (40, 30), 8),
    "lora of fp16": lambda: adapters.lora("m", (40, 30), 8, alpha=3.0, dtype=torch.float16),
    "lora of bf16": lambda: adapters.lora("m", (40, 30), 8, alpha=3.0, dtype=torch.bfloat16),
    "lora of fp64": lambda: adapters.lora("m", (40, 30), 8, alpha=3.0, dtype=torch.float64),
    "lora of fp8": lambda: adapters.lora("m", (40, 30), 8, alpha=3.0, dtype=torch.float8_e4m3fn, scale=1.0),
    "lora of many lines": lambda: adapters.lora("m", (3000, 2000), 64, alpha=3.0, dtype=torch.float16),
    "lora with a decaying spectrum": lambda: adapters.lora("m", (40, 30), 20, spectrum="decaying"),
    "lora of zeros": lambda: adapters.lora("m", (40, 30), 8, spectrum="zero"),
    "lora of more ranks than rows": lambda: adapters.lora("m", (6, 5), 16, alpha=1.0),
    "lora with alpha below zero": lambda: adapters.lora("m", (40, 30), 8, alpha=-3.0),
    "convolution": lambda: adapters.lora("m", (20, 10, 3, 3), 4, alpha=1.0),
    "1 × 1 convolution": lambda: adapters.lora("m", (20, 10, 1, 1), 4, alpha=1.0),
    "locon": lambda: adapters.locon_mid("m", (20, 10, 3, 3), 4, alpha=2.0),
    "dora, its low-rank part": lambda: adapters.dora("m", (40, 30), 8, alpha=3.0),
    "loha": lambda: adapters.loha("m", (600, 30), 4, alpha=2.0),
    "loha of a convolution": lambda: adapters.loha("m", (20, 10, 3, 3), 4, alpha=2.0),
    "loha with cores": lambda: adapters.loha("m", (20, 10, 3, 3), 4, alpha=2.0, tucker=True),
    "lokr": lambda: adapters.lokr("m", (4, 5), (10, 6)),
    "lokr of a convolution": lambda: adapters.lokr("m", (4, 5), (5, 2, 3, 3)),
    "lokr with factors": lambda: adapters.lokr("m", (4, 5), (10, 6), rank=3, alpha=2.0),
    "lokr with both in factors": lambda: adapters.lokr("m", (4, 5), (10, 6), rank=3, both=True, alpha=2.0),
    "lokr with a core": lambda: adapters.lokr("m", (4, 5), (5, 2, 3, 3), rank=3, tucker=True, alpha=2.0),
    "full": lambda: adapters.full("m", (40, 30), bias=True),
}


@pytest.mark.parametrize("case", _CASES)
def test_the_norm_is_that_of_the_dense_delta(case: str, tmp_path: Path) -> None:
    tensors = _CASES[case]()
    with open_weights(str(write(tmp_path, tensors))) as file:
        adapter = read_adapter(file)
        found = norm(adapter, adapter.modules["m"])
    assert found == pytest.approx(float(adapters.dense(tensors, "m").norm()), rel=1e-6, abs=1e-12)


def test_types_that_need_the_model_have_none(tmp_path: Path) -> None:
    with open_weights(str(write(tmp_path, {"m.oft_blocks": torch.ones(2, 4, 4)}))) as file:
        adapter = read_adapter(file)
        assert norm(adapter, adapter.modules["m"]) is None


def test_several_norms_are_one_as_of_one_long_vector() -> None:
    assert together([3.0, 4.0]) == 5.0
    assert together([]) == 0.0
