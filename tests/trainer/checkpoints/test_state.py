"""Nested states, taken apart and put together again: every type and every bit."""

import json
import math
import random
import struct
from collections import OrderedDict, defaultdict
from typing import Any

import numpy
import pytest
import torch

from trainer.checkpoints.state import State, StateUnknown, decoded, encoded
from trainer.weights.dtypes import TORCH_NAMES


def through(state: State) -> State:
    """As a checkpoint keeps it; the tensors by way of their bytes."""
    text, tensors = encoded(state)
    return decoded(json.loads(json.dumps(text, allow_nan=False)), tensors.__getitem__)


def same(one: Any, other: Any) -> bool:
    """Type for type and bit for bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        is_like = one.dtype == other.dtype and one.shape == other.shape
        return is_like and bits(one) == bits(other)
    if isinstance(one, numpy.ndarray | numpy.generic):
        return bool(
            one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
        )
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            same(a, b) and same(one[a], other[b]) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other)
    return bool(one == other)


def bits(tensor: torch.Tensor) -> bytes:
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return plain.view(torch.uint8).numpy().tobytes()


PLAIN = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**63,
    -(2**200) + 1,
    0.0,
    -0.0,
    0.1,
    1.0,
    5e-324,
    1.7976931348623157e308,
    math.inf,
    -math.inf,
    math.nan,
    struct.unpack(">d", bytes.fromhex("fff8000000000123"))[0],
    complex(-0.0, math.inf),
    "",
    "Ärger 🎨 \ud800 \0",
    b"",
    b"\x00\xff",
    [],
    (),
    {},
    (1, (2, [3, (None,)])),
    torch.Size([2, 3]),
    torch.float16,
    torch.device("cuda:1"),
    {1: "number", "1": "text", 1.5: "float", (1, 2): "pair", None: "none"},
    OrderedDict([("b", 1), ("a", 2)]),
    [{"dict": [1]}, {"tensor": "x"}],
]


@pytest.mark.parametrize("state", PLAIN, ids=repr)
def test_every_value_comes_back_as_it_was(state: State) -> None:
    assert same(through(state), state)


@pytest.mark.parametrize("name", sorted({*TORCH_NAMES.values(), "complex128"}))
def test_tensors_of_every_type_come_back_bit_for_bit(name: str) -> None:
    dtype = getattr(torch, name)
    raw = torch.randint(0, 2 if name == "bool" else 256, (96,), generator=torch.Generator().manual_seed(1))
    tensor = raw.to(torch.uint8).view(dtype).reshape(2, -1)
    for each in (tensor, tensor[0, 0], tensor[:, :0], tensor.t()):
        assert same(through({"a": each})["a"], each)


def test_views_parameters_and_lazy_bits_come_back_as_what_they_show() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    assert same(through(base[1:, ::2]), base[1:, ::2])
    assert same(through(base[:1].expand(5, 4)), base[:1].expand(5, 4).contiguous())
    assert same(through(torch.nn.Parameter(base)), base)
    lazy = torch.tensor([1 + 2j, 3 - 4j]).conj()
    assert lazy.is_conj()
    assert torch.equal(through(lazy), lazy.resolve_conj())


def test_one_tensor_at_two_places_is_one_again() -> None:
    shared = torch.zeros(3)
    state = through({"a": shared, "b": [shared], "c": torch.zeros(3)})
    assert state["a"] is state["b"][0]
    assert state["a"] is not state["c"]


def test_what_comes_back_has_memory_of_its_own() -> None:
    source = torch.zeros(3)
    through(source).add_(1)
    assert source.sum() == 0


def test_places_that_would_share_a_name_do_not() -> None:
    state = {
        "a/b": torch.zeros(1),
        "a": {"b": torch.ones(1)},
        "__metadata__": torch.ones(2),
        1: torch.ones(3),
    }
    state["1"] = torch.ones(4)
    assert same(through(state), state)


def test_numbers_of_numpy_come_back() -> None:
    state = [
        numpy.float64(0.1),
        numpy.float32("nan"),
        numpy.int8(-3),
        numpy.bool_(True),
        numpy.array(2.5),
        numpy.arange(6, dtype=numpy.uint32).reshape(2, 3)[:, ::-1],
        numpy.zeros((0, 2)),
    ]
    assert same(through(state), state)


@pytest.mark.parametrize(
    ("state", "place"),
    [
        ({"state": {0: {"mask": {1, 2}}}}, "state/0/mask"),
        ([None, object()], "1"),
        ({"f": math.sqrt}, "f"),
        ({"d": defaultdict(int)}, "d"),
        ({"s": torch.eye(2).to_sparse()}, "s"),
        ({"m": torch.empty(2, device="meta")}, "m"),
        ({"n": numpy.array(["text"])}, "n"),
        ({"o": numpy.array([object()])}, "o"),
        ({("a", frozenset()): 1}, "('a', frozenset())/1"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_place(state: State, place: str) -> None:
    with pytest.raises(StateUnknown) as refused:
        encoded(state)
    assert refused.value.place == place


@pytest.mark.parametrize(
    "text",
    [
        {},
        {"dict": [], "tuple": []},
        {"unknown": 1},
        {"tuple": 3},
        {"dict": [[1]]},
        {"float": "00"},
        {"int": 3},
        {"dtype": "nn"},
        {"dtype": "no_such"},
        {"tensor_as": ["a"]},
        {"array": [1]},
    ],
    ids=repr,
)
def test_what_nobody_wrote_is_refused(text: Any) -> None:
    with pytest.raises(StateUnknown):
        decoded(text, {"a": torch.zeros(1)}.__getitem__)


def test_states_of_any_nesting_come_back() -> None:
    """200 random ones."""
    chance = random.Random(5)
    for _ in range(200):
        state = _random_state(chance, 4)
        assert same(through(state), state)


def _random_state(chance: random.Random, depth: int) -> State:
    kind = chance.randrange(7 if depth else 4)
    if kind < 3:
        return chance.choice(PLAIN)
    if kind == 3:
        return torch.tensor([chance.gauss(0, 1) for _ in range(chance.randrange(4))])
    inner = [_random_state(chance, depth - 1) for _ in range(chance.randrange(4))]
    if kind == 4:
        return inner
    return (
        tuple(inner)
        if kind == 5
        else {chance.choice((index, str(index))): each for index, each in enumerate(inner)}
    )
