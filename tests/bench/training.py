"""What the benchmarks of training share: a kernel that trains, and the bare steps that it is held against.

A bare step is forward, backward, clipping and optimizer of the very modules that are trained, in a process of
its own that does nothing else: no pictures, no caches, no order, no messages, no files.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import msgspec

from tests.bench import cache
from tests.bench.child import Child, Kernel, cpu_s
from tests.bench.figures import median
from tests.bench.surgery import Watch

#: A side of small pictures: a latent of 8 × 8.
SMALL_SIDE: Final = 64
#: No file on the way, no checkpoint by the clock: what is measured is training.
PLAIN: Final[Mapping[str, Any]] = {
    "saving": {"every_epochs": 0},
    "checkpoints": {"every_minutes": 0},
    "network": {"type": "lora", "rank": 16, "alpha": 8.0},
}
_TRAIN: Final = b'"phase":"train"'


class Trained(NamedTuple):
    """A training as the host saw it. `first_s` are seconds from the request to the word that step 1 is done,
    `phases` seconds by phase until then, `steps` the kernel's word of each step, `peak_mb` the highest
    RssAnon."""

    seconds: float
    cpu: float
    first_s: float
    phases: Mapping[str, float]
    steps: Sequence[Mapping[str, Any]]
    outcome: Mapping[str, Any]
    peak_mb: float

    def step_s(self, skipped: int = 3) -> float:
        """Seconds of a step, without the first, which warm up."""
        return median([step["seconds"] for step in self.steps[skipped:]])

    def wait(self, skipped: int = 3) -> float:
        """The share of the time of these steps that went by waiting for data."""
        counted = self.steps[skipped:]
        waited = sum(step["data_wait"] * step["seconds"] for step in counted)
        return float(waited / sum(step["seconds"] for step in counted))


class Trainer:
    """A kernel. `started` is when it was spawned, `folder` its own for as long as it runs."""

    def __init__(self) -> None:
        self._kernel = Kernel()
        self.started = self._kernel.started
        self._jobs = 0
        self.folder = Path(tempfile.mkdtemp(dir=cache.folder(), prefix="runs-"))

    def __enter__(self) -> Self:
        self._kernel.__enter__()
        self._kernel.initialize(cache.folder())
        return self

    def __exit__(self, *_: object) -> None:
        self._kernel.__exit__()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(
        self, model: Path, pictures: Path, tables: Mapping[str, Any], *, caches: Path | None = None
    ) -> Trained:
        """Train anew; with `caches` of others, or with empty ones. Raises RuntimeError where it fails."""
        self._jobs += 1
        place = self.folder / str(self._jobs)
        place.mkdir()
        params = {
            "job_id": f"bench_{self._jobs}",
            "v": 2,
            "inputs": {"folders": [str(pictures)]},
            "outputs": {
                "file": str(place / "lora.safetensors"),
                "run": str(place / "run"),
                "cache": str(caches or place / "caches"),
            },
            "settings": {"model": {"base": {"path": str(model)}}, **PLAIN, **tables},
        }
        os.sync()
        with Watch(self._kernel.pid) as watch:
            started, cpu_before = time.perf_counter(), cpu_s(self._kernel.pid)
            seen = _Seen(started)
            message = self._kernel.terminal(self._kernel.send("train", params), seen.line)
            seconds, cpu = time.perf_counter() - started, cpu_s(self._kernel.pid) - cpu_before
        if "result" not in message:
            raise RuntimeError(message["error"])
        shutil.rmtree(place)
        outcome = message["result"]
        return Trained(seconds, cpu, seen.first_s, seen.phases, seen.steps, outcome, watch.peak_mb)


class _Seen:
    """What the kernel said, and when."""

    def __init__(self, started: float) -> None:
        self.first_s = 0.0
        self.phases: dict[str, float] = {}
        self.steps: list[Mapping[str, Any]] = []
        self._started = self._since = started
        self._phase = "request"

    def line(self, line: bytes) -> None:
        now = time.perf_counter()
        said = msgspec.json.decode(line)
        params = said["params"]
        if said["method"] == "partial":
            self.steps += params["items"]
        if said["method"] != "progress" or self.first_s:
            return
        if params["phase"] != self._phase:
            self._end(now)
            self._phase = params["phase"]
        if _TRAIN in line and params["step"] >= 1:
            self._end(now)
            self.first_s = now - self._started

    def _end(self, now: float) -> None:
        self.phases[self._phase] = self.phases.get(self._phase, 0.0) + now - self._since
        self._since = now


class Bare:
    """A process that makes bare steps of a model at `side` pixels in `dtype`; `tables` have the network."""

    def __init__(
        self,
        family: str,
        model: Path,
        side: int,
        dtype: str,
        tables: Mapping[str, Any] = PLAIN,
        batch: int = 1,
    ) -> None:
        said = {"family": family, "model": str(model), "side": side, "dtype": dtype, "batch": batch, **tables}
        self._child = Child("-m", "tests.bench.bare_steps", msgspec.json.encode(said).decode())

    def __enter__(self) -> Self:
        self._child.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._child.__exit__()

    def ready(self) -> float:
        """Wait until the model is loaded and one step is done; seconds since the process was spawned."""
        self._child.line()
        return time.perf_counter() - self._child.started

    def steps(self, count: int) -> float:
        """Make some; the median of their seconds."""
        self._child.write(b"%d\n" % count)
        return float(self._child.line())


def pictures(count: int, side: int) -> Path:
    """A folder of small pictures with captions, all different, made once."""
    return cache.made(f"train-{count}-{side}", lambda folder: _write(folder, count, side))


def of_size(side: int) -> dict[str, Any]:
    """The tables for pictures of one size."""
    return {"resolution": side, "buckets": {"min_side": side, "max_side": side}}


def _write(folder: Path, count: int, side: int) -> None:
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(count)
    for number in range(count):
        fields = random.integers(0, 256, (4, 4, 3), np.uint8)
        picture = Image.fromarray(fields).resize((side, side), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number:05}.png")
        (folder / f"{number:05}.txt").write_text(f"picture, number {number % 50}", "utf-8")


def python() -> str:
    """What the figures depend on."""
    import torch

    return f"torch {torch.__version__}, {torch.get_num_threads()} threads, Python {sys.version.split()[0]}"
