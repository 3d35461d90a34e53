"""What the benchmarks of surgery share: a resident kernel whose jobs are timed and whose memory is watched,
and the copies that a job is held against.

Time is the host's, from the request to the response. Memory is the highest RssAnon of the kernel while the
job runs, looked at every few milliseconds, less that of a Python which has imported torch and nothing else:
what the mapped inputs take is the page cache's and not counted. `os.sync` before everything that is timed, so
that nobody waits for what another has written.
"""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from tests.bench import cache
from tests.bench.child import Child, Kernel, cpu_s, memory_mb
from tests.bench.figures import Figure, median

#: Between two looks at the memory: an allocation of 10 MB takes longer to fill.
_LOOK_S: Final = 0.004
_TORCH: Final = (
    "import torch, os; torch.ones(64, 64) @ torch.ones(64, 64); os.write(1, b'\\n'); os.read(0, 1)"
)
#: A kernel for which everything that it writes is safe at once.
_UNSYNCED: Final = (
    "import os; os.fsync = os.fdatasync = lambda _: None\n"
    "from kernel.__main__ import main; raise SystemExit(main([]))"
)


class Ran(NamedTuple):
    """A job: seconds from request to response, CPU seconds of the kernel and highest RssAnon meanwhile in MB,
    its outcome."""

    seconds: float
    cpu: float
    peak_mb: float
    outcome: Mapping[str, Any]


class Bench:
    """A resident kernel. What its jobs write is removed after each."""

    def __init__(self, *, synced: bool = True) -> None:
        self._kernel = Kernel() if synced else Kernel("-c", _UNSYNCED)
        self._jobs = 0

    def __enter__(self) -> Self:
        self._kernel.__enter__()
        self._kernel.initialize(cache.folder())
        return self

    def __exit__(self, *_: object) -> None:
        self._kernel.__exit__()

    def run(self, method: str, settings: Mapping[str, Any], *, file: Path | None = None) -> Ran:
        """Run a job on `file`, or on the files that its settings name. Raises RuntimeError where it fails."""
        self._jobs += 1
        params: dict[str, Any] = {"job_id": f"bench_{self._jobs}", "v": 1, "settings": settings}
        if file is not None:
            params["inputs"] = {"file": str(file)}
        with scratch("output") as output:
            params["outputs"] = {"file": str(output)}
            with Watch(self._kernel.pid) as watch:
                started, cpu_before = time.perf_counter(), cpu_s(self._kernel.pid)
                outcome = self._kernel.call(method, params)
                seconds, cpu = time.perf_counter() - started, cpu_s(self._kernel.pid) - cpu_before
        return Ran(seconds, cpu, watch.peak_mb, outcome)

    def timed(
        self, method: str, settings: Mapping[str, Any], into: list[Ran], *, file: Path | None = None
    ) -> Callable[[], float]:
        """What runs such a job, keeps it in `into` and gives its seconds."""

        def run() -> float:
            into.append(self.run(method, settings, file=file))
            return into[-1].seconds

        return run


class Watch:
    """The highest RssAnon of a process in MB while the `with` block runs."""

    def __init__(self, pid: int) -> None:
        self.peak_mb = 0.0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        over = False
        while not over:
            self.peak_mb = max(self.peak_mb, memory_mb(self._pid)["RssAnon"])
            over = self._over.wait(_LOOK_S)


def torch_mb() -> float:
    """RssAnon of a Python that has imported torch and multiplied two small matrices."""
    with Child("-c", _TORCH) as child:
        child.line()
        return memory_mb(child.pid)["RssAnon"]


def copied(*sources: Path, synced: bool) -> float:
    """Seconds that `cat SOURCES > NEW`, and if `synced` also `sync NEW`, take."""
    with scratch("copy") as copy:
        started = time.perf_counter()
        if len(sources) == 1:
            subprocess.run(["cp", sources[0], copy], check=True)
        else:
            with copy.open("wb") as file:
                subprocess.run(["cat", *sources], check=True, stdout=file)
        if synced:
            subprocess.run(["sync", copy], check=True)
        return time.perf_counter() - started


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A place for a new file on the disk of the inputs, removed afterwards; the disk has nothing to do."""
    path = cache.folder() / f"{name}-{os.getpid()}.safetensors"
    os.sync()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def spectra(count: int, size: int) -> Callable[[], float]:
    """Seconds for one Cholesky factor and the eigenvectors of `count` matrices of `size`² in float64, in one
    batch each: the least that must be computed of the cores of `count` modules."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    rows = torch.randn(count, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cores = rows @ rows.mT

    def seconds() -> float:
        started = time.perf_counter()
        torch.linalg.cholesky(cores)
        torch.linalg.eigh(cores)
        return time.perf_counter() - started

    return seconds


def memory(what: str, jobs: list[Ran], bare_mb: float, most_mb: float) -> Figure:
    """The highest peak of several jobs, above a Python with torch."""
    above = max(job.peak_mb for job in jobs) - bare_mb
    return Figure(f"{what}: memory above a Python with torch", above, bare_mb, "MB", most_mb, "value")


def seconds(jobs: list[Ran]) -> float:
    return median([job.seconds for job in jobs])


def phases(what: str, job: Ran, why: Mapping[str, str], floors: Mapping[str, float] = {}) -> str:
    """Where the time of a job went, and what dominates it once `floors`, by phase, are taken off.

    `why` says of each phase what takes its time.
    """
    spent = {name: value for name, value in job.outcome["timings"].items() if name != "wall_s"}
    spent["elsewhere_s"] = max(0.0, job.seconds - sum(spent.values()))
    listed = ", ".join(f"{_phase(name)} {value:.2f}" for name, value in _falling(spent))
    rest = {name: value - floors.get(name, 0.0) for name, value in spent.items()}
    first, left = next(_falling(rest))
    reason = why.get(first, "what no phase counts: messages, metadata, the rename")
    took = f"{job.seconds:.2f} s (CPU {job.cpu:.2f})"
    return f"{what}: {took} = {listed}; dominated by {_phase(first)} ({left:.2f} s): {reason}"


def _falling(values: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    return iter(sorted(values.items(), key=lambda pair: -pair[1]))


def _phase(name: str) -> str:
    return name.removesuffix("_s")
