import numpy as np
import pytest
import torch

from kernel.engines.streams.methods import Arguments
from kernel.engines.streams.methods.chance import uniform
from kernel.engines.streams.methods.task_vectors import chances, smallest_kept
from tests.kernel.engines.streams.methods.merging import Numbers, close, exact, merged, tensors


def _elected(vectors: list[Numbers]) -> Numbers:
    stacked = np.stack(vectors)
    agrees = (np.sign(stacked) == np.sign(stacked.sum(0))) & (stacked != 0)
    return np.asarray((stacked * agrees).sum(0) / np.maximum(agrees.sum(0), 1))


def test_ties_trims_elects_and_takes_the_mean_of_those_that_agree() -> None:
    inputs = tensors(4, 20, 30)
    base, *others = exact(inputs)
    vectors = []
    for other, weight in zip(others, (1.0, 0.5, 2.0), strict=True):
        vector = other - base
        vector[np.abs(vector) < np.sort(np.abs(vector), axis=None)[-180]] = 0
        vectors.append(weight * vector)
    found = merged("ties", inputs, Arguments((1.0, 1.0, 0.5, 2.0), density=0.3))
    close(found, base + _elected(vectors))


def test_ties_with_one_other_model_at_full_density_is_that_model() -> None:
    a, b = tensors(2, 20, 30)
    close(merged("ties", [a, b], Arguments((1.0, 1.0), density=1.0)), exact([b])[0], 1e-6)


def test_dare_drops_by_chance_and_scales_up_what_is_kept() -> None:
    a, b = tensors(2, 400, 300)
    learned = merged("dare", [a, b], Arguments((1.0, 0.5), density=0.2, seed=3)) - a
    kept = learned != 0
    assert abs(float(kept.float().mean()) - 0.2) < 0.01
    torch.testing.assert_close(learned[kept], ((b - a) * 0.5 / 0.2)[kept], rtol=1e-4, atol=1e-5)


def test_dare_draws_by_seed_tensor_and_model() -> None:
    inputs = tensors(3, 20, 30)
    arguments = Arguments((1.0, 1.0, 1.0), density=0.5, seed=1)
    first = merged("dare", inputs, arguments)
    assert torch.equal(first, merged("dare", inputs, arguments))
    assert not torch.equal(first, merged("dare", inputs, arguments._replace(seed=2)))
    assert not torch.equal(first, merged("dare", inputs, arguments, tensor="other"))
    a, b, _ = inputs
    same = merged("dare", [a, b, b], arguments) - a
    # Were both models drawn with the same numbers, each place would have both of them or none.
    assert len(torch.unique(torch.round(same / (b - a), decimals=2))) == 3


def test_della_keeps_large_numbers_rather_than_small_ones() -> None:
    a, b = tensors(2, 300, 400)
    learned = b - a
    kept = chances(learned, 0.5, 0.4)
    assert abs(float(kept.min()) - 0.3) < 1e-6 and abs(float(kept.max()) - 0.7) < 1e-6
    order = learned.abs().argsort(dim=1, stable=True)
    assert bool((kept.gather(1, order).diff(dim=1) > 0).all())
    merged_vector = merged("della", [a, b], Arguments((1.0, 1.0), density=0.5, epsilon=0.4, seed=1)) - a
    found = merged_vector != 0
    torch.testing.assert_close(merged_vector[found], (learned / kept)[found], rtol=1e-4, atol=1e-5)
    assert abs(float(found.float().mean()) - 0.5) < 0.01
    largest = learned.abs() > learned.abs().quantile(0.75, dim=1, keepdim=True)
    assert abs(float(found[largest].float().mean()) - 0.65) < 0.02


def test_della_is_the_authors_formula() -> None:
    shape = (5, 4, 3, 3)
    inputs = tensors(3, *shape, seed=2)
    density, epsilon, weights = 0.6, 0.3, (0.8, 1.5)
    base, *others = (each.reshape(5, -1) for each in exact(inputs))
    vectors = []
    for stream, (other, weight) in enumerate(zip(others, weights, strict=True), 1):
        learned = other - base
        ranks = np.abs(learned).argsort(1).argsort(1) + 1
        kept = density - epsilon / 2 + (ranks - 1) / (learned.shape[1] - 1) * epsilon
        drawn = uniform(3, "t", stream, 0, learned.size).numpy().reshape(learned.shape)
        vectors.append(weight * learned / kept * (drawn < kept))
    found = merged("della", inputs, Arguments((1.0, *weights), density=density, epsilon=epsilon, seed=3))
    close(found.reshape(5, -1), base + _elected(vectors))


def test_what_is_kept_of_a_vector_is_found_without_sorting_it() -> None:
    vectors = tensors(2, 5_000)
    vectors[1][::3] = vectors[1][1]
    vectors[0][:10] = 0
    halves = [[each[:1_234] for each in vectors], [each[1_234:] for each in vectors]]
    for kept in (1, 2, 1_666, 1_667, 1_668, 4_990, 4_999):
        found = smallest_kept(lambda: iter(halves), kept)
        assert found == [float(each.abs().sort(descending=True).values[kept - 1]) for each in vectors]


@pytest.mark.parametrize("name", ["ties", "dare", "della"])
@pytest.mark.parametrize("density", [0.05, 1.0])
def test_a_number_that_is_none_is_not_dropped(name: str, density: float) -> None:
    for place in range(3):
        inputs = tensors(3, 6, 40)
        inputs[place][2, 5] = float("nan")
        arguments = Arguments((1.0,) * 3, density=density, epsilon=0.0, seed=1)
        assert bool(merged(name, inputs, arguments)[2, 5].isnan())


def test_della_without_width_is_dare_with_an_election() -> None:
    inputs = tensors(2, 20, 30)
    arguments = Arguments((1.0, 1.0), density=0.5, epsilon=0.0, seed=4)
    torch.testing.assert_close(merged("della", inputs, arguments), merged("dare", inputs, arguments))


def test_model_stock_goes_as_far_as_the_models_agree() -> None:
    inputs = tensors(4, 20, 30)
    for other in inputs[1:]:
        other += 2 * inputs[1]
    base, *others = exact(inputs)
    vectors = [(other - base).ravel() for other in others]
    pairs = [(0, 1), (0, 2), (1, 2)]
    cosine = np.mean(
        [vectors[i] @ vectors[j] / np.linalg.norm(vectors[i]) / np.linalg.norm(vectors[j]) for i, j in pairs]
    )
    share = 3 * cosine / (1 + 2 * cosine)
    close(merged("model_stock", inputs), share * np.mean(others, axis=0) + (1 - share) * base)


def test_model_stock_with_a_model_that_learned_nothing_is_the_base() -> None:
    base, other = tensors(2, 20, 30)
    assert torch.equal(merged("model_stock", [base, other, base]), base)


def test_model_stock_of_opposite_models_is_their_base() -> None:
    base, learned = tensors(2, 20, 30)
    close(merged("model_stock", [base, base + learned, base - learned]), exact([base])[0], 1e-6)
