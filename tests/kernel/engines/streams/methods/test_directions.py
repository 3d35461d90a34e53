import numpy as np
import pytest
import torch

from kernel.engines.streams.methods import Arguments
from tests.kernel.engines.streams.methods.merging import Numbers, close, exact, merged, tensors

ALPHA = Arguments(alpha=0.3)


def _cosine(a: Numbers, b: Numbers) -> Numbers:
    return np.asarray((a * b).sum(0) / (np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)))


def test_slerp_walks_along_the_arc() -> None:
    inputs = tensors(2, 20, 30)
    a, b = exact(inputs)
    angle = np.arccos((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))
    wanted = (np.sin(0.7 * angle) * a + np.sin(0.3 * angle) * b) / np.sin(angle)
    close(merged("slerp", inputs, ALPHA), wanted)


def test_slerp_keeps_the_length_of_models_that_have_the_same() -> None:
    a, b = (each / each.norm() for each in tensors(2, 20, 30))
    assert abs(float(merged("slerp", [a, b], ALPHA).norm()) - 1) < 1e-5


def test_slerp_of_what_has_no_arc_is_a_line() -> None:
    (a,) = tensors(1, 20, 30)
    for b in (a * 1.5, -a, torch.zeros_like(a)):
        close(merged("slerp", [a, b], ALPHA), 0.7 * exact([a])[0] + 0.3 * exact([b])[0])


def test_cosine_a_mixes_by_the_likeness_of_columns() -> None:
    a, b = tensors(2, 20, 30)
    b = b + 2 * a
    x, y = exact([a, b])
    k = 1 - np.clip(_cosine(x, y) - 0.3, 0, 1)
    close(merged("cosine_a", [a, b], ALPHA), (1 - k) * x + k * y)


def test_cosine_b_mixes_by_that_of_columns_and_of_the_whole() -> None:
    a, b = tensors(2, 4, 5, 3, 3)
    b = b + 2 * a
    x, y = (each.reshape(4, -1) for each in exact([a, b]))
    k = 1 - np.clip((_cosine(x, y) + _cosine(x.reshape(-1, 1), y.reshape(-1, 1))) / 2 - 0.3, 0, 1)
    close(merged("cosine_b", [a, b], ALPHA), ((1 - k) * x + k * y).reshape(4, 5, 3, 3))


@pytest.mark.parametrize("size", [1e30, 1e-30])
@pytest.mark.parametrize("name", ["slerp", "cosine_a", "cosine_b"])
def test_directions_do_not_depend_on_lengths(name: str, size: float) -> None:
    inputs = tensors(2, 20, 30)
    wanted = exact([merged(name, inputs, ALPHA)])[0]
    close(merged(name, [each * size for each in inputs], ALPHA) / size, wanted)


def test_slerp_walks_a_right_angle_too() -> None:
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    close(merged("slerp", [a, b], Arguments(alpha=0.5)), np.sqrt([0.5, 0.5]), 1e-6)


def test_columns_of_zeros_are_b_s() -> None:
    a, b = tensors(2, 20, 30)
    a[:, 3] = 0
    for name in ("cosine_a", "cosine_b"):
        assert torch.equal(merged(name, [a, b], Arguments(alpha=0.6))[:, 3], b[:, 3])
