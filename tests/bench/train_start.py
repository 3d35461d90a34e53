"""From the request to the end of the first step, of a small model: in a kernel that has trained before, with
caches and without, and from the start of a kernel on."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.bench import weights
from tests.bench.figures import Figure, Report, median
from tests.bench.training import PLAIN, SMALL_SIDE, Bare, Trained, Trainer, of_size, pictures, python

#: Seconds, at most.
_WARM: Final = 1.0
_COLD: Final = 3.0


class _Starts(NamedTuple):
    """Of one family: with a kernel that is started for it, in one that is there without caches, with them;
    seconds from the start of a process that makes a bare step, and of such a step."""

    fresh: list[Trained]
    cold: list[Trained]
    warm: list[Trained]
    floor: list[float]
    step: list[float]


def run(quick: bool) -> Report:
    """In turns."""
    figures, notes = [], [python()]
    for family in ("sd15",) if quick else ("sd15", "sdxl"):
        starts = _starts(family, 1 if quick else 3)
        floor, step = median(starts.floor), median(starts.step)
        figures += [
            Figure(
                f"{family}: kernel and training started", _first(starts.fresh), floor, "s", _COLD, "value"
            ),
            Figure(f"{family}: kernel is there, no caches", _first(starts.cold), step, "s", _COLD, "value"),
            Figure(f"{family}: kernel and caches are there", _first(starts.warm), step, "s", _WARM, "value"),
        ]
        notes += [
            _split(f"{family}, kernel started", starts.fresh),
            _split(f"{family}, no caches", starts.cold),
            _split(f"{family}, caches", starts.warm),
        ]
    return Report(figures, notes)


def _starts(family: str, rounds: int) -> _Starts:
    model, source = weights.small(family), pictures(4, SMALL_SIDE)
    starts = _Starts([], [], [], [], [])
    for number in range(rounds + 1):
        with Trainer() as trainer:
            fresh = _fresh(trainer, model, source)
            cold = trainer.run(model, source, _tables())
            caches = trainer.folder / "caches"
            trainer.run(model, source, _tables(), caches=caches)
            warm = trainer.run(model, source, _tables(), caches=caches)
        with Bare(family, model, SMALL_SIDE, "float32") as bare:
            floor = bare.ready()
            step = bare.steps(3)
        if not number:
            continue  # compiles bytecode and reads files
        starts.fresh.append(fresh)
        starts.cold.append(cold)
        starts.warm.append(warm)
        starts.floor.append(floor)
        starts.step.append(step)
    return starts


def _fresh(trainer: Trainer, model: Path, source: Path) -> Trained:
    """A training whose time counts from the spawn of the kernel on."""
    before = time.perf_counter() - trainer.started
    ran = trainer.run(model, source, _tables())
    return ran._replace(first_s=ran.first_s + before, phases={"kernel": before, **ran.phases})


def _first(trained: Sequence[Trained]) -> float:
    return median([each.first_s for each in trained])


def _split(what: str, trained: Sequence[Trained]) -> str:
    """Where the time goes, by the phases that a host is told."""
    names = dict.fromkeys(name for each in trained for name in each.phases)
    spent = {name: median([each.phases.get(name, 0.0) for each in trained]) * 1e3 for name in names}
    return f"{what}: " + ", ".join(f"{name} {value:.0f} ms" for name, value in spent.items())


def _tables() -> dict[str, Any]:
    return {**PLAIN, "data": of_size(SMALL_SIDE), "training": {"steps": 2}}
