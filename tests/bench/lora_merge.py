"""Two LoRAs with the shapes of SDXL's into one, in a resident kernel.

The floor of `svd` is one Cholesky factor and the eigenvectors of one 2r × 2r matrix a module, in float64, in
one batch. The floor of `concat` and `add` is writing as many bytes as they do and bringing them to the disk:
`cat` of both inputs, `cp` of one, with `sync`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.bench import weights
from tests.bench.figures import Figure, Report, interleaved, median
from tests.bench.surgery import Bench, Ran, copied, memory, phases, seconds, spectra, torch_mb

_WHY: Final = {
    "read_s": "pages of the inputs that were not in memory",
    "write_s": "the disk: fsync of the output",
}
_PRODUCTS: Final = "products with the long sides in float64: the Gram matrices, U·S and Vh of what is kept"
_COPIES: Final = "factors copied, scaled and rounded"
_COPIES_AND_ERROR: Final = f"{_COPIES}; the Gram matrices that give the error"


class _Case(NamedTuple):
    """A method, the floor it is held against, its limits, and what its arithmetic is."""

    method: str
    floor: Callable[[], float]
    most_s: float
    most_mb: float
    work: str


def run(quick: bool) -> Report:
    """Quick: two LoRAs of a few hundred KB."""
    family, rank, scale = ("sd15", 8, weights.SMALL) if quick else ("sdxl", 64, weights.FULL)
    pair = [weights.lora(family, rank, number, scale) for number in range(2)]
    cases = (
        _Case("svd", spectra(weights.modules(family), 2 * rank), 12, 500, _PRODUCTS),
        _Case("concat", lambda: copied(*pair, synced=True), 1.5, 200, _COPIES),
        _Case("add", lambda: copied(pair[0], synced=True), 1.5, 200, _COPIES_AND_ERROR),
    )
    return _measured(cases, pair, 1 if quick else 3)


def _measured(cases: tuple[_Case, ...], pair: list[Path], rounds: int) -> Report:
    bare = torch_mb()
    ran: dict[str, list[Ran]] = {case.method: [] for case in cases}
    measures: dict[str, Callable[[], float]] = {}
    with Bench() as bench:
        for case in cases:
            bench.run("merge", _settings(case.method, pair))  # the first of each reads and imports
            measures[f"{case.method} floor"] = case.floor
            measures[case.method] = bench.timed("merge", _settings(case.method, pair), ran[case.method])
        floors = interleaved(rounds, measures)
    figures, notes = [], [_said(pair)]
    for case in cases:
        jobs, floor_s = ran[case.method], median(floors[f"{case.method} floor"])
        figures.append(Figure(case.method, seconds(jobs), floor_s, "s", case.most_s, "value"))
        figures.append(memory(case.method, jobs, bare, case.most_mb))
        is_floor_of = "merge_s" if case.method == "svd" else "write_s"
        notes.append(phases(case.method, jobs[-1], {**_WHY, "merge_s": case.work}, {is_floor_of: floor_s}))
    return Report(figures, notes)


def _settings(method: str, pair: list[Path]) -> Mapping[str, Any]:
    loras = [{"model": {"path": str(file)}, "weight": 0.5} for file in pair]
    return {"type": "loras", "loras": loras, "method": method}


def _said(pair: list[Path]) -> str:
    return f"two LoRAs of {pair[0].stat().st_size / 1e6:.0f} MB fp16; concat writes both, add as much as one"
