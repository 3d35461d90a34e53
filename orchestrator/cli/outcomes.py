"""What training and surgery have come to, in words."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from contract.methods.merge import MergeOutcome
from contract.methods.metadata import MetadataOutcome
from contract.methods.resize import ResizeOutcome
from contract.methods.train import TrainOutcome
from contract.rules.paths import from_wire
from orchestrator.cli.table import clock, size

#: Seconds from which on a time is told in minutes.
_LONG: Final = 100
#: Keys that are named; of tensors, whose names are long, fewer.
_KEYS: Final = 10
_TENSORS: Final = 3
#: Errors that are told in percent.
_PERCENT: Final = (1e-4, 10.0)


def words_of(method: str, outcome: Any) -> Iterator[str]:
    """Of an outcome as the studio keeps it, its warnings first; nothing of other methods, and of what another
    version has kept."""
    if (found := _WORDS.get(method)) is not None:
        struct, words = found
        with suppress(msgspec.ValidationError):
            said = msgspec.convert(outcome, struct)
            yield from (f"warning: {each}" for each in said.warnings)
            yield from words(said)


def resized(outcome: ResizeOutcome, before: int | None = None) -> Iterator[str]:
    """Of a resize; `before` is the size of the input in bytes, where it is known."""
    modules = outcome.modules
    if modules:
        old, new = _range([each.old_rank for each in modules]), _range([each.new_rank for each in modules])
        yield f"{_name(outcome.file)}: {_counted(len(modules), 'module')}, rank {old} → {new}"
        if outcome.value is not None:
            yield f"  value {outcome.value:.4g}"
        yield f"  kept {outcome.fro_retained:.2%} of the norm, error {_error(outcome.error)}"
    else:
        yield f"{_name(outcome.file)}: no module has another rank than before"
    if outcome.unchanged:
        yield f"  {len(outcome.unchanged):,} kept as they were{_examples(outcome.unchanged, _TENSORS)}"
    was = "" if before is None else f"{size(before)} → "
    yield f"  {was}{size(outcome.bytes)}{_time(outcome.timings)}"


def merged(outcome: MergeOutcome) -> Iterator[str]:
    """Of a merge of any kind."""
    yield f"{_name(outcome.file)}: from {_counted(len(outcome.inputs), 'file')}"
    if outcome.modules:
        ranks = _range([each.rank for each in outcome.modules])
        yield f"  {_counted(len(outcome.modules), 'module')} of rank {ranks}, {_how_well(outcome)}"
    else:
        yield f"  {_counted(outcome.merged, 'tensor')} merged, {outcome.kept:,} as they were"
    if outcome.left_out_count:
        yield f"  left out {_counted(outcome.left_out_count, 'key')}{_examples(outcome.left_out, _TENSORS)}"
    yield f"  {size(outcome.bytes)}{_time(outcome.timings)}"


def edited(outcome: MetadataOutcome) -> Iterator[str]:
    """Of an edit of metadata."""
    parts = [("new", outcome.added), ("changed", outcome.changed), ("removed", outcome.removed)]
    said = ", ".join(f"{len(keys)} {word}" for word, keys in parts if keys) or "nothing is different"
    yield f"{_name(outcome.file)}: {said}"
    for word, keys in parts:
        if keys:
            yield f"  {word}{_examples(keys, _KEYS)}"


def trained(outcome: TrainOutcome) -> Iterator[str]:
    """Of a training."""
    long = f"{_counted(outcome.steps, 'step')}, {_counted(outcome.epochs, 'epoch')}"
    loss = "" if outcome.loss is None else f", loss {outcome.loss:.4f}"
    early = ", stopped early as it was told" if outcome.stopped_early else ""
    name = "no file yet" if outcome.file is None else _name(outcome.file)
    yield f"{name}: {long}{loss}{early}"
    if outcome.saved:
        yield f"  on the way{_examples([_name(each.file) for each in outcome.saved], _TENSORS)}"
    if outcome.failed_count:
        yield f"  {_counted(outcome.failed_count, 'picture')} left out"
    if outcome.bytes is not None:
        yield f"  {size(outcome.bytes)}{_time(outcome.timings)}"


def _how_well(outcome: MergeOutcome) -> str:
    if outcome.error is None:
        return "exact"
    return f"error {'about ' if outcome.error_is_estimate else ''}{_error(outcome.error)}"


def _name(path: str) -> str:
    return from_wire(path).replace("\\", "/").rpartition("/")[2]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _range(numbers: list[int]) -> str:
    """`16`, or `4 … 16, mostly 8`."""
    if not numbers:
        return "–"
    low, high = min(numbers), max(numbers)
    if low == high:
        return str(low)
    (usual, _), *_ = Counter(numbers).most_common(1)
    return f"{low} … {high}, mostly {usual}"


def _examples(names: list[str], most: int) -> str:
    shown = ", ".join(names[:most])
    return f": {shown}" + (" …" if len(names) > most else "")


def _error(error: float) -> str:
    """A relative Frobenius error: `12.3%`, and very small and large ones by their power of ten."""
    return f"{100 * error:.3g}%" if _PERCENT[0] <= error < _PERCENT[1] or not error else f"{error:.1e}"


def _time(timings: dict[str, float]) -> str:
    if (wall_s := timings.get("wall_s")) is None:
        return ""
    return f", {clock(wall_s)}" if wall_s >= _LONG else f", {wall_s:.1f} s"


_WORDS: Final[Mapping[str, tuple[Any, Callable[[Any], Iterator[str]]]]] = {
    "resize": (ResizeOutcome, resized),
    "merge": (MergeOutcome, merged),
    "metadata": (MetadataOutcome, edited),
    "train": (TrainOutcome, trained),
}
