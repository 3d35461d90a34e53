"""Resizing a LoRA with the shapes of SDXL's and FLUX's in a resident kernel, by each method.

The floor is one Cholesky factor and the eigenvectors of one r × r matrix a module, in float64, all modules in
one batch: nothing of the factors' long sides, of reading or of writing is in it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.bench import weights
from tests.bench.figures import Figure, Report, interleaved, median
from tests.bench.surgery import Bench, Ran, memory, phases, seconds, spectra, torch_mb

_RANK: Final = 16
_MOST_MB: Final = 500
_METHODS: Final[Mapping[str, Mapping[str, Any]]] = {
    "fixed": {"method": "fixed", "rank": _RANK},
    "sv_ratio": {"method": "sv_ratio", "rank": _RANK, "value": 2.0},
    "sv_cumulative": {"method": "sv_cumulative", "rank": _RANK, "value": 0.5},
    "sv_fro": {"method": "sv_fro", "rank": _RANK, "value": 0.8},
}
_WHY: Final = {
    "read_s": "pages of the input that were not in memory",
    "core_s": "the Gram matrices of the factors in float64, and half precision read into it",
    "write_s": "U·S and Vh of what is kept, in float64, and the fsync of the output",
}


class _Load(NamedTuple):
    """A LoRA of `modules` modules of `rank`, and the methods it is resized by within `most_s`."""

    name: str
    file: Path
    modules: int
    rank: int
    methods: tuple[str, ...]
    most_s: float


def run(quick: bool) -> Report:
    """Quick: a LoRA of 0.4 MB."""
    bare = torch_mb()
    figures, notes = list[Figure](), list[str]()
    for load in _small() if quick else _real():
        report = _measured(load, bare, 1 if quick else 3)
        figures += report.figures
        notes += report.notes
    return Report(figures, notes)


def _small() -> tuple[_Load, ...]:
    file = weights.lora("sd15", 32, 0, weights.SMALL)
    return (_Load("small", file, weights.modules("sd15"), 32, tuple(_METHODS), 6),)


def _real() -> tuple[_Load, ...]:
    return (
        _Load("SDXL", weights.lora("sdxl", 64, 0), weights.modules("sdxl"), 64, tuple(_METHODS), 6),
        _Load("FLUX", weights.lora("flux1", 64, 0), weights.modules("flux1"), 64, ("fixed",), 20),
    )


def _measured(load: _Load, bare_mb: float, rounds: int) -> Report:
    floor = spectra(load.modules, load.rank)
    ran: dict[str, list[Ran]] = {method: [] for method in load.methods}
    with Bench() as bench:
        bench.run("resize", _METHODS["fixed"], file=load.file)  # imports torch, reads the file
        measures = {
            method: bench.timed("resize", _METHODS[method], jobs, file=load.file)
            for method, jobs in ran.items()
        }
        floor_s = median(interleaved(rounds, {"floor": floor, **measures})["floor"])
    figures, notes = [], [_said(load)]
    for method, jobs in ran.items():
        what = f"{load.name} {method}"
        figures.append(Figure(what, seconds(jobs), floor_s, "s", load.most_s, "value"))
        figures.append(memory(what, jobs, bare_mb, _MOST_MB))
        notes.append(phases(what, jobs[-1], _WHY, {"core_s": floor_s}))
    return Report(figures, notes)


def _said(load: _Load) -> str:
    size = load.file.stat().st_size / 1e6
    return f"{load.name}: {load.modules} modules, rank {load.rank} to {_RANK}, {size:.0f} MB fp16"
