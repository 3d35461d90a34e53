"""What all methods have in common."""

import re
import sys

import pytest
import torch

from contract.rules.merge_methods import MERGE_METHODS
from kernel.engines.streams.methods import METHODS, Arguments
from tests.kernel.engines.streams.methods.merging import merged, tensors

#: re-basin looks at other tensors of the model: see test_rebasin.py.
ALONE = [name for name in METHODS if name != "rebasin"]
SHAPES = ((6, 5), (3, 4, 3, 3), (7,), (), (1,), (2, 1))


def _count(name: str) -> int:
    return MERGE_METHODS[name].least if name != "weighted_sum" else 3


def _arguments(name: str, count: int) -> Arguments:
    weights = (0.2, 0.3, 0.5) if name == "weighted_sum" else (1.0,) * count
    return Arguments(weights, alpha=0.3, beta=0.6, density=0.4, epsilon=0.2, seed=5)


def test_every_method_of_the_contract_is_here() -> None:
    assert list(METHODS) == list(MERGE_METHODS)
    assert all(method.name == name for name, method in METHODS.items())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_it_computes_and_where_that_is_from(name: str) -> None:
    method = METHODS[name]
    said = method.__doc__ or ""
    assert "A" in said or "θ" in said
    assert re.search(r"Source: \S+", said + (sys.modules[method.__module__].__doc__ or "")), said


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ALONE)
def test_a_model_merged_with_itself_stays_itself_to_the_last_bit(name: str, dtype: torch.dtype) -> None:
    for shape in SHAPES:
        (model,) = tensors(1, *shape)
        model = model.to(dtype)
        count = _count(name)
        found = merged(name, [model.float()] * count, _arguments(name, count))
        assert torch.equal(found.to(dtype), model), shape


@pytest.mark.parametrize("name", ALONE)
def test_pieces_are_the_whole(name: str) -> None:
    inputs = tensors(_count(name), 9, 11)
    arguments = _arguments(name, len(inputs))
    # Powers of the ends of pieces are computed by other instructions, which round differently.
    torch.testing.assert_close(
        merged(name, inputs, arguments, step=13), merged(name, inputs, arguments), rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("name", ALONE)
def test_inputs_are_left_as_they_are(name: str) -> None:
    inputs = tensors(_count(name), 9, 11)
    before = [each.clone() for each in inputs]
    merged(name, inputs, _arguments(name, len(inputs)))
    assert all(torch.equal(*pair) for pair in zip(inputs, before, strict=True))


@pytest.mark.parametrize("name", ["weighted_sum", "add_difference", "train_difference", "geometric", "max"])
def test_nan_is_not_lost_on_the_way(name: str) -> None:
    for place in range(_count(name)):
        inputs = tensors(_count(name), 4)
        inputs[place][1] = float("nan")
        assert bool(merged(name, inputs, _arguments(name, len(inputs))).isnan()[1])


@pytest.mark.parametrize(
    ("name", "arguments", "parameter"),
    [
        ("geometric", Arguments(alpha=1.2), "alpha"),
        ("multiply_difference", Arguments(alpha=-0.1), "alpha"),
        ("sigmoid", Arguments(alpha=2), "alpha"),
        ("tensor_sum", Arguments(beta=1.5), "beta"),
        ("della", Arguments(density=0.05, epsilon=0.2), "epsilon"),
        ("della", Arguments(density=0.95, epsilon=0.2), "epsilon"),
    ],
)
def test_parameters_that_a_formula_has_no_meaning_for_are_named(
    name: str, arguments: Arguments, parameter: str
) -> None:
    problem = METHODS[name]().problem(arguments)
    assert problem is not None and problem[0] == parameter
