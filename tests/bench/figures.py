"""What a benchmark reports: figures, each with the floor of the same run and a target."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple


class Figure(NamedTuple):
    """`value` against `floor`, both in `unit`; `target` is a limit on the `ratio` of the two or on `value`.

    `floor` is the best that this machine could do, or the least that any program would need.
    """

    what: str
    value: float
    floor: float
    unit: str
    target: float
    limits: Literal["ratio", "value"] = "ratio"
    at_least: bool = False

    @property
    def ratio(self) -> float:
        return self.value / self.floor

    @property
    def met(self) -> bool:
        reached = self.ratio if self.limits == "ratio" else self.value
        return reached >= self.target if self.at_least else reached <= self.target

    @property
    def measured(self) -> str:
        return (
            f"{self.what}: {_short(self.value)} {self.unit}, floor {_short(self.floor)} {self.unit}, "
            f"ratio {self.ratio:.3g}"
        )

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        unit = f" {self.unit}" if self.limits == "value" else ""
        verdict = "met" if self.met else "MISSED"
        return f"{self.measured}; target {self.limits} {sign} {self.target:g}{unit}: {verdict}"


class Report(NamedTuple):
    """All that one benchmark found; `notes` say what else was seen on the way."""

    figures: Sequence[Figure]
    notes: Sequence[str] = ()

    def lines(self) -> Iterator[str]:
        yield from map(str, self.figures)
        yield from (f"  {note}" for note in self.notes)


class Benchmark(NamedTuple):
    """`run` measures; when quick, only to see that it works: its figures then mean nothing."""

    name: str
    summary: str
    run: Callable[[bool], Report]


def interleaved(rounds: int, measures: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """What each measure found, `rounds` times, taken in turn so that a drifting machine hits all alike."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            found[name].append(measure())
    return found


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
