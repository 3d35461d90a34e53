"""How the learning rate rises at the beginning."""


def warming(step: int, steps: int) -> float:
    """(step + 1) / (steps + 1), where `step` counts from 0.

    transformers has step / steps: a whole first step that teaches nothing. From the end of the warm-up on
    both are the same.
    """
    return (step + 1) / (steps + 1)
