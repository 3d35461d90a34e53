"""Runs over small models, their pictures, and a watcher that notes everything down."""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy
from PIL import Image

from contract.methods.train import TrainAction, TrainMetrics, TrainOutcome, TrainSettings
from contract.rules.tensor_header import header_length, parse_header
from trainer.run.preflight import known_of
from trainer.run.request import Request
from trainer.run.train import train
from trainer.run.watcher import Made, Wish

#: Fields of a file of weights that tell when, and not what.
OF_TIME = {
    "ss_training_started_at",
    "ss_training_finished_at",
    "ss_session_id",
    "modelspec.date",
    # It covers the header.
    "sshs_legacy_hash",
}

#: Small pictures, few steps: what a test changes is said in the test.
QUICK: dict[str, Any] = {
    "data": {"resolution": 64, "buckets": {"min_side": 64, "max_side": 128}},
    "training": {"steps": 3},
    "network": {"type": "lora", "rank": 4, "alpha": 4.0, "include": ["*attn*"]},
    "memory": {"gradient_checkpointing": False},
    "checkpoints": {"every_minutes": 0},
    "saving": {"every_epochs": 0, "dtype": "fp32"},
}


class Recorder:
    """Notes what it is told. From batch `stop_at` on, counted from 0 in this attempt, it wants the run to
    stop."""

    def __init__(self, stop_at: int | None = None, wish: Wish = "graceful") -> None:
        self.phases: list[str] = []
        self.items: list[TrainMetrics] = []
        self.files: list[Made] = []
        self.said: list[str] = []
        self.given: list[TrainAction] = []
        self.batches = 0
        self.stops_when: Callable[[], bool] = lambda: False
        self._stop_at = stop_at
        self._wish = wish

    def progress(
        self,
        phase: str,
        done: int = 0,
        total: int | None = None,
        *,
        unit: str = "items",
        message: str | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        if not self.phases or self.phases[-1] != phase:
            self.phases.append(phase)

    def wish(self) -> Wish | None:
        is_time = self._stop_at is not None and self.batches > self._stop_at
        return self._wish if is_time or self.stops_when() else None

    def orders(self) -> list[TrainAction]:
        # Asked for before every batch.
        self.batches += 1
        given, self.given = self.given, []
        return given

    def metrics(self, item: TrainMetrics) -> None:
        self.items.append(item)

    def made(self, made: Made) -> None:
        self.files.append(made)

    def log(self, level: str, text: str) -> None:
        self.said.append(text)


def pictures(folder: Path, count: int = 4, name: str = "2_cat") -> Path:
    """A source with a subset of noisy pictures of two shapes, each with a caption."""
    subset = folder / name
    subset.mkdir(parents=True)
    for number in range(count):
        size = (64, 96) if number % 2 else (80, 80)
        noise = numpy.random.default_rng(number).integers(0, 255, (*size, 3), dtype=numpy.uint8)
        Image.fromarray(noise).save(subset / f"{number}.png")
        (subset / f"{number}.txt").write_text(f"a cat, number {number}, red, blue, on a mat")
    return folder


def settings(model: Path, /, **tables: Any) -> TrainSettings:
    """Quick ones, with `tables` over them."""
    table = _laid({"model": {"base": {"path": str(model)}}, **QUICK}, tables)
    return msgspec.convert(table, TrainSettings)


def request(model: Path, source: Path, folder: Path, /, **tables: Any) -> Request:
    """A run in `folder`, its LoRA beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = settings(model, **tables)
    return Request(
        settings=chosen,
        model=str(model),
        folders=[str(source)],
        folder=str(folder / "run"),
        output=str(folder / "cat.safetensors"),
        cache=str(source.parent / "cache"),
        start_from=None if chosen.network.start_from is None else chosen.network.start_from.path,
    )


def go(asked: Request, watcher: Recorder | None = None) -> TrainOutcome:
    """Train to the end. Raises what it raises."""
    return train(asked, known_of(asked), watcher or Recorder())


def again(asked: Request) -> Request:
    """The same run anew."""
    shutil.rmtree(asked.folder, ignore_errors=True)
    return msgspec.structs.replace(asked, overwrite=True)


def content(path: str | Path) -> tuple[dict[str, str], bytes]:
    """The metadata that say nothing of the time, and the tensors with their places, of a file of weights."""
    raw = Path(path).read_bytes()
    end = 8 + header_length(raw[:8], len(raw))
    header = parse_header(raw[8:end], len(raw) - end)
    metadata = {key: value for key, value in header.metadata.items() if key not in OF_TIME}
    return metadata, msgspec.json.encode(header.tensors) + raw[end:]


def sha256(path: str | Path) -> str:
    """Of the whole file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _laid(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    laid = dict(under)
    for name, value in over.items():
        below = laid.get(name)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        laid[name] = _laid(below, value) if both else value  # type: ignore[arg-type]
    return laid
