"""The tables of the noise schedule once more, in plain Python: sums and products as the papers write them."""

import math


def alphas_cumprod(timesteps: int = 1000, start: float = 0.00085, end: float = 0.012) -> list[float]:
    """ᾱ of the scaled-linear schedule (Rombach and others, CVPR 2022)."""
    kept, product = [], 1.0
    for t in range(timesteps):
        root = math.sqrt(start) + t / (timesteps - 1) * (math.sqrt(end) - math.sqrt(start))
        product *= 1 - root * root
        kept.append(product)
    return kept


def zero_terminal(kept: list[float]) -> list[float]:
    """ᾱ after algorithm 1 of Lin and others, arXiv 2305.08891."""
    roots = [math.sqrt(each) for each in kept]
    moved = [each - roots[-1] for each in roots]
    return [(each * roots[0] / moved[0]) ** 2 for each in moved]


def snr(kept: float) -> float:
    """ᾱ / (1 − ᾱ)."""
    return kept / (1 - kept)
