"""The steps of a run: batches become gradients, gradients steps, and steps files, samples and checkpoints.

Between two batches a run can be left and taken up again; what it does afterwards depends on nothing but what
a checkpoint has.
"""

import hashlib
import itertools
import time
from collections.abc import Iterator
from typing import Any, Final

import torch

from contract.errors import InvalidParams
from contract.methods.train import SavedFile
from contract.rules.paths import to_wire
from trainer.checkpoints.folder import Checkpoint
from trainer.checkpoints.manifest import Position, settings_digest
from trainer.checkpoints.snapshot import Snapshot, load_snapshot
from trainer.data.examples import Example
from trainer.data.loader import Loader
from trainer.optimizers import evaluated
from trainer.run.context import Context
from trainer.run.encoded import sampler_of
from trainer.run.finite import check_finite
from trainer.run.keeper import Keeper
from trainer.run.learner import Place
from trainer.run.measured import Measured, Step, numbers_of
from trainer.run.metrics import LossAverage, MetricsLog
from trainer.run.same import lasting
from trainer.run.stopping import check
from trainer.run.watcher import Made
from trainer.sampling.run import Sample
from trainer.weights.tensor_writer import Written

#: There is no registered media type of safetensors.
_WEIGHTS: Final = "application/octet-stream"

#: What is done after a step, in this order; by name, since a checkpoint in between says what is left.
_STEP_FILE: Final = "step_file"
_EPOCH_FILE: Final = "epoch_file"
_SAMPLES: Final = "samples"


class Loop:
    """A run, at `number` batches and `step` steps from its start. `samples` counts the pictures made."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._learner = context.learner
        self._plan = context.data.sampler
        self._keeper = Keeper(context.request.folder, context.settings)
        self.number = 0
        self.step = 0
        self.samples = 0
        self.average = LossAverage(self._plan.steps_per_epoch)
        self.stopped_early = False
        self.first_step_s: float | None = None
        self._losses: list[torch.Tensor | float] = []
        self._paths: list[list[str]] = []
        self._due: list[str] = [_SAMPLES] if context.occasions.samples(0) else []
        self._ordered: list[str] = []
        self._keeps_now = False
        self._measured = Measured()
        self._numbers: dict[str, float] = {}

    @property
    def total(self) -> int:
        """The steps of the whole run."""
        return self._context.data.total

    @property
    def checkpoint(self) -> str | None:
        """The path of the newest."""
        return self._keeper.newest

    @property
    def epochs_done(self) -> int:
        """Whole epochs."""
        return self.number // self._plan.batches_per_epoch

    def restore(self, checkpoint: Checkpoint) -> None:
        """Stand where the checkpoint stood.

        Raises InvalidParams where its pictures or its model were others or it is beyond the end of the run,
        WeightsMismatch, and what `load_snapshot` raises.
        """
        snapshot = load_snapshot(checkpoint)
        where = to_wire(checkpoint.path)
        self._check_same(snapshot, checkpoint)
        if snapshot.position.step > self.total:
            training = self._context.settings.training
            raise InvalidParams(
                f"The checkpoint `{checkpoint.name}` is beyond the end of the run, which has {self.total} "
                "steps.",
                where=f"$.params.settings.training.{'steps' if training.steps else 'epochs'}",
                hint="Let it be longer, or go on from an earlier checkpoint in a new run.",
                details={"step": snapshot.position.step, "checkpoint": where},
            )
        state = {name: getattr(snapshot, name) for name in ("adapter", "optimizer", "scaler", "rng")}
        self._learner.restore(state, snapshot.window["gradients"], where)
        position, schedule = snapshot.position, snapshot.schedule
        self.step = position.step
        self.number = position.epoch * self._plan.batches_per_epoch + position.batch
        self.average = LossAverage(self._plan.steps_per_epoch, snapshot.window["average"])
        self._losses = list(snapshot.window["losses"])
        self._paths = [[] for _ in self._losses]
        self._due, self._ordered = list(schedule["due"]), list(schedule["ordered"])
        if self._keeper.has(checkpoint):
            # Of another run's files nothing is known here.
            self._keeper.take_up(checkpoint, self.number)
            self.samples = schedule["samples"]
            self._context.outputs.saved = [SavedFile(**each) for each in schedule["saved"]]

    def _check_same(self, snapshot: Snapshot, checkpoint: Checkpoint) -> None:
        """Raises InvalidParams where a checkpoint is one of another training."""
        marks = snapshot.schedule["marks"]
        others = {
            "other settings": snapshot.settings != settings_digest(lasting(self._context.settings)),
            "other pictures": marks["pictures"] != self._marks["pictures"],
            "another model": marks["model"] != self._marks["model"],
        }
        if found := [what for what, is_other in others.items() if is_other]:
            raise InvalidParams(
                f"The checkpoint `{checkpoint.name}` is one of a run with {' and '.join(found)}.",
                where=to_wire(checkpoint.path),
                hint="Begin a new run; `network.start_from` can start it from a LoRA.",
            )

    def run(self) -> None:
        """Go on to the end, or to that of the epoch where it was told so.

        Raises Stopped, NanLoss, DiskFull, FileUnwritable, and what loading and sampling raise.
        """
        context = self._context
        with MetricsLog(context.request.folder, self.step) as log:
            self._settle()
            # A checkpoint may be of the very end.
            if self._is_last_of_all:
                return
            with self._loader() as loader:
                self._measured = Measured()
                for example in loader:
                    self._obey()
                    self._batch(example)
                    if self._losses and self._is_whole:
                        self._update(log, loader)
                        self._settle()
                        if self._is_last_of_all:
                            return

    def keep(self) -> None:
        """Write a checkpoint of this moment, unless there is one. Raises DiskFull and FileUnwritable."""
        if self._keeper.stands_at(self.number) and not self._is_owing:
            # Whoever wrote it may have come to its end before the older ones went.
            self._keeper.tidy()
            return
        self._context.watcher.progress("save", self.step, self.total, unit="steps")
        made = self._keeper.keep(self._snapshot(), self.number)
        self._keeps_now = False
        self._context.watcher.made(made)

    def save(self, path: str, role: Any = "lora") -> Written:
        """Write the network as it is used to `path`. Raises what `Outputs.write` raises, and Stopped."""
        context = self._context
        context.watcher.progress("save", self.step, self.total, unit="steps")
        stopped = self._context.occasions.epoch(self.step) if self.stopped_early else None
        said = context.metadata(self.step, lambda: check(context.watcher), stopped_after=stopped)
        with evaluated(self._learner.optimizer):
            written = context.outputs.write(path, self._learner.network, context.settings, said)
        labels = {"step": self.step, "epoch": self.epochs_done}
        context.watcher.made(Made(role, path, written.bytes, written.sha256, _WEIGHTS, labels))
        return written

    @property
    def saved(self) -> list[SavedFile]:
        """The files of weights on the way that are there."""
        return self._context.outputs.saved

    def finish(self) -> None:
        """Note that the run has come to its end. Raises DiskFull and FileUnwritable."""
        # Who goes on with it later does not want the end that it was told.
        self._context.run.change(finished=True, stop_after=None)

    @property
    def _marks(self) -> dict[str, str]:
        """What tells the pictures and the model from others, wherever they lie."""
        known = self._context.known
        model = settings_digest([known.denoiser, known.vae, known.text])
        return {"pictures": self._context.pictures, "model": model}

    @property
    def _position(self) -> Position:
        epoch, batch = divmod(self.number, self._plan.batches_per_epoch)
        return Position(step=self.step, epoch=epoch, batch=batch, window=len(self._losses))

    @property
    def _is_whole(self) -> bool:
        """Whether all batches of a step are done."""
        window = self._plan.window(self.number - 1)
        return len(self._losses) == window.size

    @property
    def _is_last_of_all(self) -> bool:
        """Whether nothing comes after this step."""
        if self.step < self.total and self._is_stop:
            self.stopped_early = True
            return True
        return self.step >= self.total

    @property
    def _is_stop(self) -> bool:
        """Whether the epoch has ended that was to be the last."""
        occasions = self._context.occasions
        if self.step == 0 or not occasions.ends_epoch(self.step):
            return False
        ends = (self._context.settings.training.stop_after, self._context.run.record.stop_after)
        return any(end is not None and occasions.epoch(self.step) >= end for end in ends)

    @property
    def _is_owing(self) -> bool:
        """Whether something is still to be done that a checkpoint has to know of."""
        return bool(self._due or self._ordered)

    def _loader(self) -> Loader[Any, Example]:
        # With an order of its own: what is loaded ahead may be of the next epoch already.
        order = sampler_of(self._context.settings, self._context.data.plan)
        left = max(0, order.first_of_step(self.total) - self.number)
        batches: Iterator[Any] = itertools.islice(order.since(self.number), left)
        return Loader(batches, self._context.data.examples.load)

    def _obey(self) -> None:
        """Take up orders: they are carried out after the next step. Raises Stopped, DiskFull and
        FileUnwritable."""
        for order in self._context.watcher.orders():
            if order == "stop_after_epoch":
                # On the disk at once: whatever ends this attempt, the next one knows it.
                self._context.run.change(stop_after=self.epochs_done + 1)
            elif order == "sample_now":
                self._ordered += [_SAMPLES] if self._context.known.prompts else []
            else:
                self._ordered.append(_STEP_FILE)
                self._keeps_now = True
        check(self._context.watcher)

    def _batch(self, example: Example) -> None:
        window = self._plan.window(self.number)
        batches = self._plan.batches(example.batch.epoch)[window.first : window.first + window.size]
        pictures = sum(len(each.items) for each in batches)
        place = Place(self.step, len(self._losses), pictures)
        self._losses.append(self._learner.add_gradients(example, place))
        self._paths.append(example.paths)
        self._measured.pictures += len(example.paths)
        self.number += 1

    def _update(self, log: MetricsLog, loader: Loader[Any, Example]) -> None:
        context = self._context
        norm = float(self._learner.step(self.step, self.total))
        losses = [float(each) for each in self._losses]
        check_finite(
            losses,
            norm,
            self._paths,
            step=self.step + 1,
            checkpoint=self.checkpoint,
            skips_overflows=self._learner.skips_overflows,
        )
        self.step += 1
        loss = sum(losses)
        self.average.add(loss)
        self._losses, self._paths = [], []
        self._measured.losses.append(loss)
        if self.step % context.settings.logging.every_steps == 0 or self.step == self.total:
            self._note(norm, log, loader.wait_s)
        self._tell()
        if self.first_step_s is None:
            self.first_step_s = time.perf_counter()
            context.begin_hashing()
        self._plan_what_is_due()

    def _tell(self) -> None:
        self._context.watcher.progress("train", self.step, self.total, unit="steps", metrics=self._numbers)

    def _note(self, norm: float, log: MetricsLog, waited: float) -> None:
        """Write a row of metrics. Raises DiskFull and FileUnwritable."""
        epoch = (self.step - 1) // self._plan.steps_per_epoch + 1
        item = self._measured.row(
            Step(self.step, epoch, norm),
            average=self.average.mean,
            rates=self._learner.rates(),
            waited=waited,
            memory=self._context.peak.look("train"),
        )
        self._measured = Measured(waited)
        log.add(item)
        self._context.watcher.metrics(item)
        self._numbers = numbers_of(item)

    def _plan_what_is_due(self) -> None:
        occasions = self._context.occasions
        for is_due, name in (
            (occasions.saves_step(self.step), _STEP_FILE),
            (occasions.saves_epoch(self.step), _EPOCH_FILE),
            (occasions.samples(self.step), _SAMPLES),
        ):
            if is_due or name in self._ordered:
                self._due.append(name)
        self._ordered = []

    def _settle(self) -> None:
        """Do what is due after a step; a checkpoint comes last, so that nothing is done twice."""
        outputs, begun = self._context.outputs, time.perf_counter()
        is_due = bool(self._due) or self._is_time_to_keep
        while self._due:
            match self._due[0]:
                case "step_file":
                    self._save_on_the_way(outputs.of_step(self.step), None)
                case "epoch_file":
                    epoch = self._context.occasions.epoch(self.step)
                    self._save_on_the_way(outputs.of_epoch(epoch), epoch)
                case _:
                    self._sample()
            self._due.pop(0)
        if self._is_time_to_keep:
            self.keep()
        # The time that files take is not that of steps.
        self._measured.leave_out(time.perf_counter() - begun)
        if is_due and not self._is_last_of_all:
            self._tell()

    @property
    def _is_time_to_keep(self) -> bool:
        is_due = self._keeper.is_late or self._keeps_now or self._context.occasions.keeps(self.step)
        return self.step > 0 and is_due

    def _save_on_the_way(self, path: str, epoch: int | None) -> None:
        written = self.save(path, "lora_step")
        saved = SavedFile(
            file=to_wire(path), bytes=written.bytes, sha256=written.sha256, step=self.step, epoch=epoch
        )
        self._context.outputs.keep(saved, self._context.settings.saving.keep_last)

    def _sample(self) -> None:
        context = self._context
        prompts = context.known.prompts
        context.watcher.progress("sample", 0, len(prompts), unit="images")

        def told(sample: Sample) -> None:
            labels = {"step": sample.step, "prompt_index": sample.prompt_index}
            sha256 = _sha256(sample.path)
            context.watcher.made(Made("sample", sample.path, sample.bytes, sha256, "image/png", labels))
            context.watcher.progress("sample", sample.prompt_index + 1, len(prompts), unit="images")
            self.samples += 1

        context.peak.next("train")
        context.sampler.make(self.step, lambda: check(context.watcher), told)
        context.peak.next("sample")

    def _snapshot(self) -> Snapshot:
        state = self._learner.state()
        saved = [
            {name: getattr(each, name) for name in each.__struct_fields__}
            for each in self._context.outputs.saved
        ]
        window = {
            "gradients": self._learner.gradients(),
            "losses": [float(each) for each in self._losses],
            "average": self.average.losses,
        }
        schedule = {
            "due": list(self._due),
            "ordered": list(self._ordered),
            "saved": saved,
            "samples": self.samples,
            "marks": self._marks,
        }
        digest = settings_digest(lasting(self._context.settings))
        return Snapshot(self._position, digest, schedule=schedule, window=window, **state)


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
