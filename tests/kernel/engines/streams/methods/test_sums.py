from kernel.engines.streams.methods import Arguments
from tests.kernel.engines.streams.methods.merging import close, exact, merged, tensors


def test_weighted_sum_of_two_and_of_more() -> None:
    inputs = tensors(3, 20, 30)
    a, b, c = exact(inputs)
    close(merged("weighted_sum", inputs[:2], Arguments((0.3, 0.7))), 0.3 * a + 0.7 * b)
    close(merged("weighted_sum", inputs, Arguments((0.3, 0.2, 0.5))), 0.3 * a + 0.2 * b + 0.5 * c)


def test_weights_need_not_add_up_to_one() -> None:
    inputs = tensors(2, 20, 30)
    a, b = exact(inputs)
    close(merged("weighted_sum", inputs, Arguments((2.0, -0.5))), 2 * a - 0.5 * b)
    close(merged("weighted_sum", inputs[:1], Arguments((0.5,))), 0.5 * a)


def test_triple_sum() -> None:
    inputs = tensors(3, 20, 30)
    a, b, c = exact(inputs)
    close(merged("triple_sum", inputs, Arguments(alpha=0.3, beta=0.6)), 0.1 * a + 0.3 * b + 0.6 * c)


def test_sum_twice() -> None:
    inputs = tensors(3, 20, 30)
    a, b, c = exact(inputs)
    wanted = 0.4 * (0.7 * a + 0.3 * b) + 0.6 * c
    close(merged("sum_twice", inputs, Arguments(alpha=0.3, beta=0.6)), wanted)
