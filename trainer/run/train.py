"""A run from its request to its LoRA."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from traceback import clear_frames
from typing import Final

from contract.errors import OutOfMemory
from contract.methods.job import FailedImage
from contract.methods.train import TrainOutcome
from contract.rules.paths import to_wire
from trainer.checkpoints.manifest import settings_digest
from trainer.data.collection import Skipped
from trainer.run.alone import alone_in
from trainer.run.beginning import beginning
from trainer.run.context import Context
from trainer.run.encoded import Data, encode_all, planned
from trainer.run.frozen import pictures_now, pictures_of
from trainer.run.hashed import Hashes
from trainer.run.learner import Learner, check_settings
from trainer.run.loop import Loop
from trainer.run.memory_advice import phase_of, shortage
from trainer.run.numbers import Numbers, numbers_of
from trainer.run.occasions import Occasions
from trainer.run.outputs import Outputs
from trainer.run.parts import Parts, base_of
from trainer.run.peak import Peak, give_back
from trainer.run.preflight import Known
from trainer.run.record import RunFile, record_of
from trainer.run.request import Request
from trainer.run.samples import Sampler
from trainer.run.stopping import Stopped, canceled, check
from trainer.run.threads import threads_for
from trainer.run.watcher import Watcher
from trainer.shortage import is_memory

#: Pictures that an outcome names; the others are counted.
_MOST_FAILED: Final = 1000


def train(request: Request, known: Known, watcher: Watcher) -> TrainOutcome:
    """Train, from the beginning or from where the run stood, and write the LoRA. `known` is what
    `preflight.known_of` says of the request.

    Raises InputError, ResourceError, RuntimeFailure, InvalidParams, and JobCanceled with what there is.
    """
    try:
        return _Run(request, known, watcher).train()
    except BaseException as error:
        # Whoever keeps the error would keep the model, too.
        clear_frames(error.__traceback__)
        raise
    finally:
        give_back()


class _Run:
    """One attempt, and what it has come to."""

    def __init__(self, request: Request, known: Known, watcher: Watcher) -> None:
        self._request = request
        self._known = known
        self._watcher = watcher
        self._started = time.perf_counter()
        self._timings: dict[str, float] = {}
        self._warnings: list[str] = list(known.recognised.warnings)
        self._data: Data | None = None
        self._loop: Loop | None = None
        self._peak: Peak | None = None
        self._numbers: Numbers | None = None
        self._skipped: list[Skipped] = []

    def train(self) -> TrainOutcome:
        """Raises what `go` does, and OutOfMemory with what would need less."""
        try:
            return self.go()
        except (MemoryError, RuntimeError, OSError) as error:
            if not is_memory(error):
                raise
            shortage = self.shortage(error)
            clear_frames(error.__traceback__)
            raise shortage from error

    def go(self) -> TrainOutcome:
        """Plan, or train. Raises InputError, ResourceError, RuntimeFailure, InvalidParams, JobCanceled."""
        if self._request.plan_only:
            return self._planned()
        with ExitStack() as stack:
            stack.enter_context(alone_in(self._request.folder))
            hashes = stack.enter_context(Hashes(self._request.cache))
            try:
                loop = self._prepared(hashes, stack)
                with self._phase("train"):
                    loop.run()
                return self._finished(loop)
            except Stopped as stopped:
                if stopped.graceful and self._loop is not None:
                    self._loop.keep()
        outcome = self._outcome()
        canceled(outcome, None if self._data is None else self._data.total)

    def _planned(self) -> TrainOutcome:
        """What would be done."""
        try:
            pictures = pictures_now(self._request, lambda done, total: self._step("pictures", done, total))
        except Stopped:
            canceled(self._outcome(), None)
        self._skipped = pictures.collection.skipped
        outcome = self._outcome()
        outcome.plan = planned(self._request, self._known, pictures)
        return outcome

    def shortage(self, error: BaseException) -> OutOfMemory:
        """What a user is told where memory ran out."""
        compute = None if self._numbers is None else self._numbers.name
        return shortage(self._request.settings, phase_of(error), size=self._known.size, compute=compute)

    def _prepared(self, hashes: Hashes, stack: ExitStack) -> Loop:
        request, known, settings = self._request, self._known, self._request.settings
        record = RunFile(request.folder, record_of(request))
        checkpoint = beginning(request, self._warn)
        outputs = Outputs(request.output, record, overwrite=request.overwrite)
        outputs.check()
        base = base_of(known.family, known.files, known.recognised, settings)
        check_settings(settings, base)
        self._check_hashes(hashes)
        with self._phase("pictures"):
            pictures = pictures_of(request, lambda done, total: self._step("pictures", done, total))
        self._skipped = pictures.collection.skipped
        with self._phase("load"):
            self._numbers = numbers = numbers_of(settings)
            stack.enter_context(threads_for(request.model, numbers.device))
        self._peak = peak = Peak(numbers.device)
        parts = Parts(base, numbers, partial(_tell_loading, self._watcher))
        with self._phase("encode"):
            self._data = data = encode_all(request, known, pictures, parts, stack, self._step)
        peak.next("encode")
        self._skipped = data.collection.skipped
        self._release(parts, data)
        occasions = Occasions(settings, data.sampler.steps_per_epoch, data.total)
        outputs.check_on_the_way(occasions)
        with self._phase("load"):
            learner = Learner(settings, parts)
            stack.callback(learner.close)
            if request.start_from is not None and checkpoint is None:
                self._start(learner, request.start_from)
        peak.next("load")
        context = Context(
            request=request,
            known=known,
            data=data,
            learner=learner,
            sampler=Sampler(request.folder, known, data, parts, learner),
            outputs=outputs,
            occasions=occasions,
            run=record,
            hashes=hashes,
            peak=peak,
            watcher=self._watcher,
            pictures=_digest(data),
        )
        record.change()
        self._loop = loop = Loop(context)
        if checkpoint is not None:
            loop.restore(checkpoint)
            self._watcher.log("info", f"Going on from step {loop.step} of {loop.total}.")
        return loop

    def _finished(self, loop: Loop) -> TrainOutcome:
        with self._phase("save"):
            loop.keep()
            written = loop.save(self._request.output)
            loop.finish()
        outcome = self._outcome()
        outcome.file = to_wire(written.path)
        outcome.bytes, outcome.sha256 = written.bytes, written.sha256
        return outcome

    def _outcome(self) -> TrainOutcome:
        """What there is so far."""
        loop = self._loop
        outcome = TrainOutcome(steps=0, epochs=0, warnings=self._warnings)
        outcome.timings = {f"{name}_s": round(seconds, 4) for name, seconds in self._timings.items()}
        outcome.timings["wall_s"] = round(time.perf_counter() - self._started, 4)
        outcome.failed_count = len(self._skipped)
        outcome.failed = [
            FailedImage(index=index, image=to_wire(each.path), error=each.error.to_wire())
            for index, each in enumerate(self._skipped[:_MOST_FAILED])
        ]
        if self._data is not None:
            outcome.plan = self._data.shown(self._request.settings)
        if loop is not None:
            outcome.steps, outcome.epochs = loop.step, loop.epochs_done
            outcome.loss = loop.average.mean if loop.step else None
            outcome.saved = loop.saved
            outcome.checkpoint = None if loop.checkpoint is None else to_wire(loop.checkpoint)
            outcome.samples, outcome.stopped_early = loop.samples, loop.stopped_early
            if loop.first_step_s is not None:
                outcome.timings["first_step_s"] = round(loop.first_step_s - self._started, 4)
        if self._peak is not None:
            self._peak.look("train")
            outcome.memory = dict(self._peak.by_phase)
        return outcome

    def _check_hashes(self, hashes: Hashes) -> None:
        """Those that the settings say; others are computed beside the first steps."""
        request, model, network = self._request, self._request.settings.model, self._request.settings.network

        def waiting() -> None:
            self._step("hash", 0, None)

        hashes.check(request.model, model.base, waiting)
        hashes.check(request.vae, model.vae, waiting)
        hashes.check(request.start_from, network.start_from, waiting)

    def _release(self, parts: Parts, data: Data) -> None:
        """Let go of the encoders that are not needed any more."""
        parts.release("text")
        if not data.needs_vae:
            parts.release("vae")

    def _start(self, learner: Learner, path: str) -> None:
        from trainer.networks import start_from
        from trainer.weights.tensor_file import open_weights

        with open_weights(path) as file:
            started = start_from(learner.network, file)
        if started.left_out:
            count, first = len(started.left_out), started.left_out[0]
            self._warn(f"{count} modules of the LoRA are not trained here, such as `{first}`.")
        if started.fresh:
            self._warn(f"{len(started.fresh)} modules begin anew, such as `{started.fresh[0]}`.")

    def _step(self, phase: str, done: int, total: int | None) -> None:
        check(self._watcher)
        self._watcher.progress(phase, done, total, unit="images" if phase != "text" else "texts")

    def _warn(self, text: str) -> None:
        self._warnings.append(text)
        self._watcher.log("warning", text)

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._timings[name] = self._timings.get(name, 0.0) + time.perf_counter() - started


def _tell_loading(watcher: Watcher, what: str) -> None:
    """Holds nothing of a run, whose model would stay in memory with it."""
    check(watcher)
    watcher.progress("load", message=what)


def _digest(data: Data) -> str:
    """Of the pictures in their order, and of what is done with them."""
    return settings_digest(
        [
            [each.sha256, each.caption, data.subsets[each.subset].name, each.repeats]
            for each in data.plan.pictures
        ]
    )
