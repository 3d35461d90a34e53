"""With how many threads of the processor a run computes."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import torch

from trainer.families.source import open_denoiser

#: Bytes of weights: far more than models for trying out have, far less than those that people train.
_SMALL: Final = 256 << 20


@contextmanager
def threads_for(model: str, device: torch.device) -> Iterator[None]:
    """Within it a small model has one thread on a processor: its layers are done before a second one has
    woken up, and a step takes twice to four times as long where it is waited for.

    The number follows from the file alone, since the last bits of sums follow from the number.
    """
    if device.type != "cpu" or not _is_small(model):
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _is_small(model: str) -> bool:
    with ExitStack() as stack:
        return sum(file.data_bytes for file in open_denoiser(model, stack).files) < _SMALL
