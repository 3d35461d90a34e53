"""What a step costs with ten pictures and with ten thousand."""

from typing import Any, Final

from tests.bench import cache, weights
from tests.bench.figures import Figure, Report, median
from tests.bench.training import PLAIN, SMALL_SIDE, Trained, Trainer, of_size, pictures, python

#: The most that a step may become dearer.
_RATIO: Final = 1.05


def run(quick: bool) -> Report:
    """In turns, with caches that a training has filled before."""
    few, many, rounds, steps = (4, 12, 1, 6) if quick else (10, 10_000, 3, 60)
    model = weights.small("sd15")
    ran: dict[int, list[Trained]] = {few: [], many: []}
    with Trainer() as trainer:
        for number in range(rounds + 1):
            for count in (few, many):
                source = pictures(count, SMALL_SIDE)
                caches = cache.folder() / f"train-caches-{count}"
                found = trainer.run(model, source, _tables(steps if number else 1), caches=caches)
                if number:
                    ran[count].append(found)
    value, floor = (median([each.step_s() for each in ran[count]]) * 1e3 for count in (many, few))
    notes = [
        python(),
        *(
            f"{count} pictures: first step after {median([each.first_s for each in found]):.2f} s, "
            f"highest memory {max(each.peak_mb for each in found):.0f} MB"
            for count, found in ran.items()
        ),
    ]
    return Report([Figure(f"a step, {many} pictures against {few}", value, floor, "ms", _RATIO)], notes)


def _tables(steps: int) -> dict[str, Any]:
    return {**PLAIN, "data": of_size(SMALL_SIDE), "training": {"steps": steps}}
