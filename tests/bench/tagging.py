"""Tagging end to end, against what decoding and the model alone would need of these cores.

The limit is cores / (CPU seconds a picture of `pictures.prepare` + CPU seconds a picture of `session.run`),
each measured alone in this run, with as many threads as there are cores: cores that share a unit are slower
when all of them work. Nothing else is in the limit: copying pixels into batches, the tags, the captions, the
messages and the host are what a program adds.

End to end is the time from the first word of the phase `tag` to the response, as the host sees it. Loading
the model is reported by itself. A round in which other programs took part of the cores is repeated: the limit
counts CPU seconds and would not see them.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernel.cores import cores
from kernel.engines import pictures, sessions
from tests.bench import cache, photos
from tests.bench.child import Kernel, busy_s, cpu_s
from tests.bench.figures import Figure, Report, median
from tests.builders.vit import build_vit_tagger

_TARGET: Final = 0.95
_BATCH: Final = 8
_SIDE: Final = 1024
#: Share of the cores that other programs may take before a round is repeated.
_DISTURBED: Final = 0.02
#: Attempts for every round that is wanted.
_PATIENCE: Final = 3
_MAX_PIXELS: Final = 64_000_000
_DEMO: Final = Path(__file__).parents[2] / "kernel" / "data" / "demo-tagger"


class _Load(NamedTuple):
    """A model and what is tagged with it; `runs` batches of the model are timed alone."""

    name: str
    model: Path
    size: int
    paths: list[Path]
    rounds: int
    runs: int
    has_target: bool = True


class _Whole(NamedTuple):
    """A job end to end: pictures a second, CPU milliseconds a picture, share of the cores, loading."""

    rate: float
    cpu_ms: float
    busy: float
    load_s: float


class _Round(NamedTuple):
    """CPU milliseconds a picture of each part alone, what the whole came to, and what others took."""

    prepare_ms: float
    run_ms: float
    whole: _Whole
    others: float

    @property
    def parts_ms(self) -> float:
        return self.prepare_ms + self.run_ms

    @property
    def limit(self) -> float:
        """Pictures a second."""
        return cores() * 1e3 / self.parts_ms


def run_tiny(quick: bool) -> Report:
    """A model of next to no work at the size of the real ones, and the demo tagger, smaller still."""
    count, side, rounds = (6, 256, 1) if quick else (300, _SIDE, 5)
    paths = photos.jpegs(count, side)
    tiny = cache.made("tiny-448", lambda folder: build_vit_tagger(folder, **_TINY))
    return _report(
        _Load("tiny model of 448 px", tiny, 448, paths, rounds, runs=2 if quick else 40),
        _Load("demo tagger", _DEMO, 64, paths, rounds, runs=2 if quick else 40, has_target=False),
    )


def run_vit(quick: bool) -> Report:
    """The size and architecture of wd-vit-tagger-v3, random weights; quick: a much smaller one."""
    if quick:
        model = cache.made("vit-64", lambda folder: build_vit_tagger(folder, **_SMALL))
        return _report(_Load("small ViT", model, 64, photos.jpegs(6, 256), rounds=1, runs=2))
    model = cache.made("vit-b-448", build_vit_tagger)
    return _report(_Load("ViT-B of 448 px", model, 448, photos.jpegs(48, _SIDE), rounds=3, runs=4))


_TINY: Final = {"size": 448, "width": 16, "depth": 1, "heads": 1, "patch": 64, "tags": 64}
_SMALL: Final = {"size": 64, "width": 32, "depth": 1, "heads": 2, "patch": 16, "tags": 64}


def _report(*loads: _Load) -> Report:
    figures, notes = [], list[str]()
    for load in loads:
        with Kernel() as kernel:
            kernel.initialize(load.paths[0].parent, load.model)
            first = _end_to_end(kernel, load, "first")
            rounds = _rounds(kernel, load)
        figure = _figure(load, rounds)
        if load.has_target:
            figures.append(figure)
        else:
            notes.append(f"{figure.measured}; no target")
        notes += _notes(load, rounds, first.load_s)
    return Report(figures, notes)


def _rounds(kernel: Kernel, load: _Load) -> list[_Round]:
    """The rounds that were not disturbed; if there were none, all of them."""
    found: list[_Round] = []
    calm: list[_Round] = []
    while len(calm) < load.rounds and len(found) < _PATIENCE * load.rounds:
        found.append(_round(kernel, load, f"round_{len(found)}"))
        calm = [each for each in found if each.others < _DISTURBED]
    return calm or found


def _round(kernel: Kernel, load: _Load, job_id: str) -> _Round:
    before = _spent(kernel)
    whole, prepare_ms, run_ms = _end_to_end(kernel, load, job_id), _prepare_ms(load), _run_ms(load)
    wall_s, ours_s, all_s = (end - start for start, end in zip(before, _spent(kernel), strict=True))
    return _Round(prepare_ms, run_ms, whole, max(0.0, all_s - ours_s) / (wall_s * cores()))


def _spent(kernel: Kernel) -> tuple[float, float, float]:
    """Seconds so far: on the clock, of CPU by the kernel and this process, of CPU by everybody."""
    return time.perf_counter(), cpu_s(kernel.pid) + time.process_time(), busy_s()


def _figure(load: _Load, rounds: list[_Round]) -> Figure:
    rate, limit = median([each.whole.rate for each in rounds]), median([each.limit for each in rounds])
    return Figure(load.name, rate, limit, "pictures/s", _TARGET, at_least=True)


def _notes(load: _Load, rounds: list[_Round], load_s: float) -> Iterator[str]:
    prepare, run = median([each.prepare_ms for each in rounds]), median([each.run_ms for each in rounds])
    wholes = [each.whole for each in rounds]
    cpu, busy = median([each.cpu_ms for each in wholes]), median([each.busy for each in wholes])
    others = median([each.others for each in rounds])
    ratios = ", ".join(f"{each.whole.rate / each.limit:.3f}" for each in rounds)
    yield f"{load.name}: {len(load.paths)} photographs, {cores()} cores; the model loads in {load_s:.2f} s"
    yield f"  CPU ms a picture: prepare {prepare:.2f} + run {run:.2f} = {prepare + run:.2f}; kernel {cpu:.2f}"
    yield f"  of the cores, the kernel took {busy:.1%}, others {others:.1%}; ratios by round: {ratios}"


def _prepare_ms(load: _Load) -> float:
    """CPU milliseconds a picture of reading, decoding, scaling and padding, on all cores."""

    budget = pictures.budget_for(_MAX_PIXELS)

    def prepare(path: Path) -> None:
        pictures.prepare(str(path), load.size, fast=True, max_pixels=_MAX_PIXELS, budget=budget)

    return _cpu_ms(prepare, load.paths) / len(load.paths)


def _run_ms(load: _Load) -> float:
    """CPU milliseconds a picture of `session.run` in full batches, on all cores."""
    session = sessions.open_session(str(load.model / "model.onnx"))
    name = session.get_inputs()[0].name
    plan = sessions.plan_for(session.get_providers()[0])
    batch = _batch(load)

    def run(_: int) -> None:
        session.run(None, {name: batch})

    _cpu_ms(run, range(plan.runners), plan.runners)
    return _cpu_ms(run, range(load.runs), plan.runners) / (load.runs * _BATCH)


def _batch(load: _Load) -> NDArray[np.float32]:
    paths = (load.paths * _BATCH)[:_BATCH]
    prepared = [pictures.prepare(str(each), load.size, fast=True, max_pixels=_MAX_PIXELS) for each in paths]
    return np.stack([each.pixels for each in prepared]).astype(np.float32)


def _cpu_ms(work: Callable[[Any], None], items: Iterable[Any], threads: int | None = None) -> float:
    """CPU milliseconds of this process for all of `items`."""
    with ThreadPoolExecutor(threads or cores()) as pool:
        started = time.process_time()
        for _ in pool.map(work, items):
            pass
        return (time.process_time() - started) * 1e3


def _end_to_end(kernel: Kernel, load: _Load, job_id: str) -> _Whole:
    job = kernel.send("tag", _params(load, job_id))
    while b'"phase":"tag"' not in kernel.line():
        pass
    wall_before, cpu_before = time.perf_counter(), cpu_s(kernel.pid)
    terminal = kernel.terminal(job)
    wall, cpu = time.perf_counter() - wall_before, cpu_s(kernel.pid) - cpu_before
    result, count = terminal["result"], len(load.paths)
    if result["tagged"] != count:
        raise RuntimeError(result["failed"])
    return _Whole(count / wall, cpu / count * 1e3, cpu / wall / cores(), result["timings"]["load_s"])


def _params(load: _Load, job_id: str) -> dict[str, Any]:
    settings = {"model": {"path": str(load.model)}, "batch_size": _BATCH}
    images = [str(path) for path in load.paths]
    return {"job_id": job_id, "v": 2, "inputs": {"images": images}, "settings": settings}
