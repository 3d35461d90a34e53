"""How long a step of a training takes, and what share of it is waiting for data, with small models: whatever
a training does besides computing is largest there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.bench import weights
from tests.bench.figures import Figure, Report, median
from tests.bench.training import PLAIN, SMALL_SIDE, Bare, Trained, Trainer, of_size, pictures, python

_FAMILIES: Final = ("sd15", "sdxl")
_RATIO: Final = 1.10
_WAIT: Final = 0.02


def run_step(quick: bool) -> Report:
    """In turns: steps of a kernel, bare steps."""
    figures, notes = [], [python()]
    for family in _FAMILIES[:1] if quick else _FAMILIES:
        trained, bare = _in_turns(family, weights.small(family), 1 if quick else 5, 6 if quick else 30)
        step_s, bare_s = median([each.step_s() for each in trained]), median(bare)
        ratios = [each.step_s() / floor for each, floor in zip(trained, bare, strict=True)]
        figures.append(Figure(f"a step, small {family}", step_s * 1e3, bare_s * 1e3, "ms", _RATIO))
        notes.append(f"{family}: ratio by round {', '.join(f'{each:.3f}' for each in ratios)}")
    return Report(figures, notes)


def run_wait(quick: bool) -> Report:
    """The share of the time that steps wait, with caches; the floor is that of loading alone."""
    family = "sd15"
    model, source = weights.small(family), pictures(8 if quick else 64, SMALL_SIDE)
    with Trainer() as trainer:
        ran = trainer.run(model, source, _tables(8 if quick else 200))
    loading = _loading_s(ran)
    wait = ran.wait()
    figure = Figure("waiting for data", wait * 100, 100 * loading, "%", _WAIT * 100, "value")
    return Report([figure], [f"a step takes {ran.step_s() * 1e3:.1f} ms; the floor is one look at the clock"])


def _in_turns(family: str, model: Path, rounds: int, steps: int) -> tuple[list[Trained], list[float]]:
    source = pictures(8, SMALL_SIDE)
    trained, bare = [], []
    with Trainer() as trainer, Bare(family, model, SMALL_SIDE, "float32") as floor:
        floor.ready()
        trainer.run(model, source, _tables(2))  # imports
        for _ in range(rounds):
            trained.append(trainer.run(model, source, _tables(steps)))
            bare.append(floor.steps(steps))
    return trained, bare


def _tables(steps: int) -> Mapping[str, Any]:
    return {**PLAIN, "data": of_size(SMALL_SIDE), "training": {"steps": steps}}


def _loading_s(ran: Trained) -> float:
    """The least share that can be seen: a microsecond of a step."""
    return 1e-6 / ran.step_s()
