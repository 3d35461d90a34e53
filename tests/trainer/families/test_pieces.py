"""Modules without memory, compared with files and filled from them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from contract.errors import WeightsIncomplete, WeightsMismatch, WeightsUnsupported
from trainer.families.pieces import Piece, check, fill, piece, without_memory
from trainer.weights.tensor_file import TensorFile, open_weights

TENSORS = {
    "whole": torch.arange(6.0).reshape(2, 3),
    "fused": torch.arange(12.0).reshape(4, 3).to(torch.float8_e4m3fn),
    "conv": torch.arange(6.0).reshape(2, 3, 1, 1).half(),
    "bias": torch.tensor([1.0, 2.0]).to(torch.bfloat16),
}


@pytest.fixture
def file(tmp_path: Path) -> Iterator[TensorFile]:
    save_file(TENSORS, tmp_path / "x.safetensors")
    with open_weights(str(tmp_path / "x.safetensors")) as opened:
        yield opened


def linear() -> nn.Module:
    return without_memory(lambda: nn.Linear(3, 2))


def test_a_module_without_memory_draws_nothing_and_is_frozen() -> None:
    before = torch.get_rng_state()
    made = linear()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(each.is_meta and not each.requires_grad for each in made.parameters())
    assert not made.training


def test_pieces_are_read_as_copies_in_the_type_asked_for(file: TensorFile) -> None:
    whole = TENSORS["whole"]
    cases = {
        piece(file, "whole"): whole,
        Piece(file, "whole", (3, 2), turned=True): whole.T,
        Piece(file, "fused", (2, 3), rows=(1, 3)): TENSORS["fused"].float()[1:3],
        Piece(file, "conv", (2, 3)): whole,
    }
    for each, wanted in cases.items():
        found = each.read(torch.bfloat16, "cpu")
        assert found.dtype == torch.bfloat16
        assert found.is_contiguous()
        assert torch.equal(found.float(), wanted)
        found.add_(1)  # of the file itself, this would end the process
    assert torch.equal(piece(file, "whole").read(torch.float32, "cpu"), whole)


def test_a_module_is_filled_with_numbers_of_every_type(file: TensorFile) -> None:
    made = linear()
    layout = {"weight": Piece(file, "conv", (2, 3)), "bias": piece(file, "bias")}
    check(made, layout, "x")
    fill(made, layout, torch.float32, "cpu")
    assert torch.equal(made(torch.eye(3)), TENSORS["whole"].T + torch.tensor([1.0, 2.0]))
    assert not any(each.requires_grad for each in made.parameters())


def test_what_does_not_fit_is_refused_by_key(file: TensorFile) -> None:
    weight, bias = piece(file, "whole"), piece(file, "bias")
    with pytest.raises(WeightsIncomplete, match="nothing for `weight` and 1 more"):
        check(linear(), {}, "x")
    with pytest.raises(WeightsMismatch, match="`conv` in `x` is 2 × 3 × 1 × 1 and should be 2 × 3"):
        check(linear(), {"weight": piece(file, "conv"), "bias": bias}, "x")
    with pytest.raises(WeightsUnsupported, match="`fused` in `x` has no place"):
        check(linear(), {"weight": weight, "bias": bias, "other": piece(file, "fused")}, "x")
