"""A training as it goes on: on a terminal a line that changes, elsewhere one now and then; or events."""

from collections.abc import Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, Final, NamedTuple

import msgspec

from contract.methods.train import TrainMetrics
from contract.notifications import Artifact, Partial, Progress
from contract.rules.paths import from_wire
from orchestrator.cli.kernel_jobs import show
from orchestrator.cli.output import Output
from orchestrator.cli.table import clock, size

#: The phase that has steps, epochs and losses.
TRAIN: Final = "train"
#: Seconds between two lines where there is no terminal.
EVERY_S: Final = 30.0
#: What is done in each phase.
_PHASES: Final = {
    "preflight": "Looking at the files.",
    "pictures": "Looking at the pictures.",
    "load": "Loading the model.",
    "latents": "Encoding the pictures.",
    "text": "Encoding the captions.",
    "sample": "Making samples.",
    TRAIN: "Training.",
    "save": "Saving.",
    "hash": "Hashing.",
}
_RATE: Final = "lr_"
_GAP: Final = "  "


class Part(NamedTuple):
    """Something to tell, which may have a shorter form; where there is no room, what has the highest `rank`
    is left out first."""

    rank: int
    text: str
    short: str | None = None


class TrainingShown:
    """Takes what a training of so many `epochs` says, where that is known, and shows it."""

    def __init__(self, output: Output, epochs: int | None) -> None:
        self._output = output
        self._epochs = epochs
        self._memory: int | None = None
        self._train: Progress | None = None
        self._pace: tuple[float | None, float | None] = (None, None)
        self._told: set[str] = set()
        self._said_at = float("-inf")

    def take(self, _method: str, said: Any) -> None:
        """The sink of the job."""
        match said:
            case Progress():
                self.progress(said)
            case Partial():
                for item in msgspec.convert(said.items, list[TrainMetrics]):
                    self.measured(item.memory)
                    self._output.event("metrics", metrics=item)
            case Artifact():
                show(said, self._output)
                self.made(said.role, from_wire(said.path), said.labels)
            case _:
                show(said, self._output)

    def measured(self, memory: float | None) -> None:
        """The peak of memory in bytes, as far as it is known."""
        self._memory = self._memory if memory is None else int(memory)

    def progress(self, step: Progress) -> None:
        """Where it stands."""
        if step.phase == TRAIN:
            # Right after a sample nothing is known of the pace; what it was is nearer to the truth.
            self._pace = self._pace if step.eta_s is None else (step.rate, step.eta_s)
            self._train = step
        if self._train is None:
            self._output.progress(step)
        else:
            # What was told last stays while it samples and saves.
            title = "" if step.phase == TRAIN else step.phase
            room = self._output.room_beside_bar - len(f"{title}  {step.total}/{step.total}   ")
            words = _GAP.join(fitting(list(self._parts(self._train)), room))
            self._output.progress(step, words, title=title)
        if not self._output.shows_bars:
            self._line(step)

    def _line(self, step: Progress) -> None:
        """For a log: each phase once, and of the steps the first, the last, and some between."""
        if step.phase not in self._told:
            self._told.add(step.phase)
            self._output.note(_PHASES.get(step.phase, step.phase))
        due = monotonic() - self._said_at >= EVERY_S
        if step.phase == TRAIN and step.step and (due or step.step == step.total):
            self._said_at = monotonic()
            parts = [f"step {step.step}/{step.total}", *(each.text for each in self._parts(step))]
            self._output.note(", ".join(parts))

    def _parts(self, step: Progress) -> Iterator[Part]:
        """All that is known of where it stands, in the order in which it is read."""
        metrics = step.metrics
        if "epoch" in metrics:
            of = "" if self._epochs is None else f"/{self._epochs}"
            yield Part(3, f"epoch {metrics['epoch']:.0f}{of}", f"ep {metrics['epoch']:.0f}{of}")
        if "loss" in metrics:
            yield Part(0, f"loss {metrics['loss']:.4f}")
        if "loss_average" in metrics:
            yield Part(6, f"average {metrics['loss_average']:.4f}")
        if rates := [value for name, value in metrics.items() if name.startswith(_RATE)]:
            yield Part(4, f"lr {exponent(metrics.get(f'{_RATE}unet', rates[0]))}")
        rate, eta_s = self._pace
        if rate:
            yield Part(2, pace(rate))
        if eta_s is not None and step.step != step.total:
            yield Part(1, f"ETA {clock(eta_s)}")
        if self._memory:
            memory = size(self._memory)
            yield Part(5, memory, memory.replace(" ", "").removesuffix("iB"))

    def made(self, role: str, name: str, labels: Mapping[str, int]) -> None:
        """A file that is finished."""
        step = labels.get("step", 0)
        match role:
            case "checkpoint" if "step" in labels:
                self._output.note(f"step {step}: a checkpoint to go on from", "dim")
            case "sample":
                self._output.note(f"step {step}: sample {labels.get('prompt_index', 0) + 1}, {name}", "dim")
            case "lora_step":
                file = name.replace("\\", "/").rpartition("/")[2]
                self._output.note(f"step {step}: {file}", "dim")


def fitting(parts: Sequence[Part], room: int) -> list[str]:
    """Their texts, or the shorter ones, or as many of these as fit into `room` columns, in their order."""
    texts = [each.text for each in parts]
    left = list(parts)
    while left and _columns(texts) > room:
        if len(texts) < len(parts) or texts == (texts := _short(left)):
            left.remove(max(left, key=lambda each: each.rank))
            texts = _short(left)
    return texts


def _short(parts: Sequence[Part]) -> list[str]:
    return [each.short or each.text for each in parts]


def _columns(texts: Sequence[str]) -> int:
    return len(_GAP.join(texts))


def exponent(number: float) -> str:
    """`1e-4`, `9.8e-5`."""
    digits, _, power = f"{number:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(power)}" if number else "0"


def pace(rate: float) -> str:
    """Steps a second, or seconds a step where there are more of these."""
    return f"{rate:.2f} it/s" if rate >= 1 else f"{1 / rate:.2f} s/it"
