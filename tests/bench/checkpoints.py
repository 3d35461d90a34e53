"""Two checkpoints into one, and a LoRA into a checkpoint, in a resident kernel.

Both are held against `cp` of one checkpoint: with `sync` of the copy where the kernel brings its output to
the disk, and without where the kernel's fsync does nothing, which is a kernel of its own. Memory is looked at
with a second checkpoint of another size too.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.bench import weights
from tests.bench.figures import Figure, Report, interleaved, median
from tests.bench.surgery import Bench, Ran, copied, memory, phases, seconds, torch_mb

_MOST_MB: Final = 300
#: How often longer than a copy a job may take: with the copy brought to the disk, and without.
_SYNCED_MOST, _UNSYNCED_MOST = 2, 5
_LORA_RANK: Final = 64
_WHY: Final = {
    "merge_s": "fp16 to fp32 and back on two cores, tensor by tensor, and the output into the page cache",
    "elsewhere_s": "the disk: fsync of the output, and what no phase counts",
}

Settings = Mapping[str, Any]


class _Found(NamedTuple):
    """Jobs of the kernel that syncs and of the one that does not, and the copies beside them, in seconds."""

    synced: list[Ran]
    unsynced: list[Ran]
    copy_synced_s: float
    copy_s: float


def run_merge(quick: bool) -> Report:
    """`weighted_sum` of two checkpoints."""
    return _report(_merge, quick)


def run_bake(quick: bool) -> Report:
    """One LoRA into a checkpoint."""
    return _report(_bake, quick)


def _merge(scale: weights.Scale) -> Settings:
    models = [{"model": {"path": str(weights.checkpoint(scale, each))}, "weight": 0.5} for each in range(2)]
    return {"type": "checkpoints", "models": models, "method": "weighted_sum"}


def _bake(scale: weights.Scale) -> Settings:
    model, lora = weights.checkpoint(scale, 0), weights.lora("sd15", _rank(scale), 0, scale)
    loras = [{"model": {"path": str(lora)}, "weight": 0.8}]
    return {"type": "bake", "model": {"path": str(model)}, "loras": loras}


def _rank(scale: weights.Scale) -> int:
    return 4 if scale == weights.SMALL else _LORA_RANK


def _report(settings: Callable[[weights.Scale], Settings], quick: bool) -> Report:
    bare, rounds = torch_mb(), 1 if quick else 3
    large, other = (weights.SMALL, weights.SMALL) if quick else (weights.FULL, weights.HALF)
    file = weights.checkpoint(large, 0)
    found, smaller = _measured(settings(large), settings(other), file, rounds)
    size, other_size = (weights.checkpoint(each, 0).stat().st_size / 1e9 for each in (large, other))
    synced, unsynced = seconds(found.synced), seconds(found.unsynced)
    figures = [
        Figure("with fsync, against cp and sync", synced, found.copy_synced_s, "s", _SYNCED_MOST),
        Figure("without fsync, against cp", unsynced, found.copy_s, "s", _UNSYNCED_MOST),
        memory(f"{size:.2f} GB", found.synced, bare, _MOST_MB),
        memory(f"{other_size:.2f} GB", [smaller], bare, _MOST_MB),
    ]
    notes = [
        phases("with fsync", found.synced[-1], _WHY),
        phases("without", found.unsynced[-1], _WHY),
    ]
    return Report(figures, notes)


def _measured(settings: Settings, smaller: Settings, file: Path, rounds: int) -> tuple[_Found, Ran]:
    synced: list[Ran] = []
    unsynced: list[Ran] = []
    with Bench() as bench, Bench(synced=False) as hasty:
        other = [each.run("merge", smaller) for each in (bench, hasty)]  # they have torch from here on
        bench.run("merge", settings)  # the files are in memory, as far as they can be
        copies = interleaved(
            rounds,
            {
                "cp and sync": lambda: copied(file, synced=True),
                "synced": bench.timed("merge", settings, synced),
                "cp": lambda: copied(file, synced=False),
                "unsynced": hasty.timed("merge", settings, unsynced),
            },
        )
    return _Found(synced, unsynced, median(copies["cp and sync"]), median(copies["cp"])), other[0]
