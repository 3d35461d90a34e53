import numpy as np
import pytest
import torch
from scipy import ndimage

from kernel.engines.streams.methods import Arguments
from kernel.engines.streams.methods.smooth import median, smooth_
from tests.kernel.engines.streams.methods.merging import close, exact, merged, tensors

SHAPES = ((7,), (5, 6), (4, 3, 5), (4, 6, 3, 3), (2, 3, 1, 1), (1, 1), (90, 900))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_filters_are_those_of_scipy(shape: tuple[int, ...]) -> None:
    (values,) = tensors(1, *shape)
    assert np.array_equal(median(values).numpy(), ndimage.median_filter(values.numpy(), size=3))
    smoothed = values.double()
    smooth_(smoothed)
    close(smoothed, ndimage.gaussian_filter(values.double().numpy(), sigma=1), 1e-13)


def test_smooth_add_adds_the_filtered_difference() -> None:
    inputs = tensors(3, 8, 4, 3, 3)
    a, b, c = exact(inputs)
    filtered = ndimage.gaussian_filter(ndimage.median_filter(b - c, size=3), sigma=1)
    close(merged("smooth_add", inputs, Arguments(alpha=0.7)), a + 0.7 * filtered)


def test_a_wish_to_stop_is_heard_between_pieces() -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        median(torch.zeros(4, 4), stop)
