"""Random numbers that go on where they were."""

import random
from typing import Any

import numpy
import pytest
import torch

from tests.trainer.checkpoints.test_state import through
from trainer.checkpoints import rng


@pytest.fixture(autouse=True)
def _left_as_they_were() -> Any:
    before = rng.capture()
    yield
    rng.restore(before)


def sources() -> dict[str, rng.Source]:
    return {
        "torch": torch.Generator().manual_seed(3),
        "python": random.Random(3),
        "pcg": numpy.random.Generator(numpy.random.PCG64(3)),
        "philox": numpy.random.Generator(numpy.random.Philox(3)),
        "mt": numpy.random.Generator(numpy.random.MT19937(3)),
    }


def drawn(own: dict[str, rng.Source]) -> list[Any]:
    numbers: list[Any] = [
        random.random(),
        random.gauss(0, 1),
        float(numpy.random.standard_normal()),
        torch.randn(3).tolist(),
        torch.nn.functional.dropout(torch.ones(8), 0.5).tolist(),
    ]
    for source in own.values():
        if isinstance(source, torch.Generator):
            numbers.append(torch.randn(3, generator=source).tolist())
        elif isinstance(source, random.Random):
            numbers.append(source.gauss(0, 1))
        else:
            numbers.append(float(source.standard_normal()))
            numbers.append(int(source.integers(0, 2**31, dtype=numpy.int32)))
    return numbers


def test_every_source_goes_on_where_it_was() -> None:
    own = sources()
    # One number of a pair is kept for the next time.
    drawn(own)
    kept = through(rng.capture(own))
    expected = [drawn(own) for _ in range(3)]
    again = sources()
    assert rng.restore(kept, again) == []
    assert [drawn(again) for _ in range(3)] == expected


def test_what_is_not_here_is_named() -> None:
    kept = rng.capture({"a": random.Random(1), "b": random.Random(2)})
    kept["devices"]["cuda:99"] = torch.zeros(1, dtype=torch.uint8)
    assert rng.restore(kept, {"b": random.Random(3), "c": random.Random(4)}) == ["cuda:99", "a", "c"]


def test_every_common_source_begins_at_a_seed() -> None:
    drawn = []
    for _ in range(2):
        rng.seed(2**53 - 1)
        drawn.append((random.random(), float(numpy.random.rand()), float(torch.rand(()))))
    assert drawn[0] == drawn[1]
