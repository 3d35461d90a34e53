"""Numbers of pictures beside the pictures."""

import torch


def beside(numbers: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Numbers [b] as float32 [b, 1, …] on the device of `pictures` [b, …], ready to multiply them."""
    return numbers.to(pictures.device, torch.float32).view(-1, *(1 for _ in pictures.shape[1:]))
