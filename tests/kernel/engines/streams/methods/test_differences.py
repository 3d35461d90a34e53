import numpy as np

from kernel.engines.streams.methods import Arguments
from tests.kernel.engines.streams.methods.merging import close, exact, merged, tensors

ARGUMENTS = Arguments(alpha=0.3, beta=0.6)


def test_add_difference() -> None:
    inputs = tensors(3, 20, 30)
    a, b, c = exact(inputs)
    close(merged("add_difference", inputs, ARGUMENTS), a + 0.3 * (b - c))


def test_train_difference() -> None:
    inputs = tensors(3, 20, 30)
    a, b, c = exact(inputs)
    share = np.abs(b - a) / (np.abs(b - a) + np.abs(b - c))
    close(merged("train_difference", inputs, ARGUMENTS), a + 1.8 * 0.3 * share * (b - c))


def test_train_difference_adds_nothing_that_a_has_already() -> None:
    b, c = tensors(2, 20, 30)
    close(merged("train_difference", [b, b, c], ARGUMENTS), exact([b])[0], 0)


def test_multiply_difference() -> None:
    inputs = tensors(3, 20, 30)
    a, b, c = exact(inputs)
    size = np.abs(a - c) ** 0.7 * np.abs(b - c) ** 0.3
    close(merged("multiply_difference", inputs, ARGUMENTS), c + np.sign(0.4 * a + 0.6 * b - c) * size)


def test_similarity_add() -> None:
    inputs = tensors(3, 20, 30)
    for each in inputs[:2]:
        each[0] = 0
    inputs[0][1], inputs[1][1] = 1e-30, 1e-30
    a, b, c = exact(inputs)
    with np.errstate(invalid="ignore"):
        alike = 0.3 * (a * b / np.maximum(np.abs(a), np.abs(b)) ** 2 + 1)
    alike[0] = 0.6
    difference, mean = a + 0.3 * (b - c), 0.85 * a + 0.15 * b
    close(merged("similarity_add", inputs, ARGUMENTS), (1 - alike) * difference + alike * mean)
