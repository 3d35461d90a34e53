import numpy as np
import pytest
import torch

from kernel.engines.streams.methods import Arguments
from tests.kernel.engines.streams.methods.merging import close, exact, merged, tensors


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_geometric_is_the_real_part_of_the_complex_powers(alpha: float) -> None:
    inputs = tensors(2, 20, 30)
    inputs[0][0, :3], inputs[1][0, 2:5] = 0, 0
    a, b = exact(inputs)
    wanted = (a.astype(complex) ** (1 - alpha) * b.astype(complex) ** alpha).real
    close(merged("geometric", inputs, Arguments(alpha=alpha)), wanted)


def test_sigmoid_eases_alpha_in_and_out() -> None:
    inputs = tensors(2, 20, 30)
    a, b = exact(inputs)
    eased = 3 * 0.2**2 - 2 * 0.2**3
    close(merged("sigmoid", inputs, Arguments(alpha=0.2)), (1 - eased) * a + eased * b)


def test_max_is_by_number() -> None:
    inputs = tensors(2, 20, 30)
    assert np.array_equal(merged("max", inputs).numpy(), np.maximum(*(each.numpy() for each in inputs)))


@pytest.mark.parametrize(
    ("alpha", "beta", "rows_of_b"),
    [
        (0.3, 0.2, range(2, 5)),
        (0.0, 0.5, range(0)),
        (1.0, 0.0, range(10)),
        (0.5, 0.5, range(5, 10)),
        (0.6, 0.7, [0, 1, 2, 7, 8, 9]),
    ],
)
@pytest.mark.parametrize("step", [1 << 30, 7])
def test_tensor_sum_takes_rows(alpha: float, beta: float, rows_of_b: list[int], step: int) -> None:
    a, b = tensors(2, 10, 4, 3)
    found = merged("tensor_sum", [a, b], Arguments(alpha=alpha, beta=beta), step=step)
    for row in range(10):
        assert torch.equal(found[row], b[row] if row in rows_of_b else a[row])
