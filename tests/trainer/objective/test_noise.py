"""Noise, and the offset of its channels."""

import pytest
import torch

from trainer.objective.noise import gaussian


def seeded(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_same_generator_gives_the_same_noise_and_touches_no_other() -> None:
    before = torch.get_rng_state()
    noise = gaussian(torch.Size((2, 4, 8, 8)), seeded(), 0.1)
    assert torch.equal(noise, gaussian(torch.Size((2, 4, 8, 8)), seeded(), 0.1))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_offset_shifts_whole_channels_and_leaves_the_rest_as_it_was() -> None:
    plain = gaussian(torch.Size((3, 4, 8, 8)), seeded())
    shift = (gaussian(torch.Size((3, 4, 8, 8)), seeded(), 0.1) - plain).flatten(2)
    assert float(shift.std(dim=2).max()) < 1e-6
    assert float(shift.mean(dim=2).std()) == pytest.approx(0.1, abs=0.06)


def test_the_variance_with_an_offset_is_one_plus_its_square() -> None:
    noise = gaussian(torch.Size((4_000, 4, 2, 2)), seeded(), 0.5)
    assert float(noise.var()) == pytest.approx(1.25, abs=0.03)
