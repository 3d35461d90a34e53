"""`tag`: pictures through a tagger, results handed over as they come."""

import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from contract.errors import JobCanceled, LineTooLong, LorakeetError, cut
from contract.handshake import Limits
from contract.methods.job import FailedImage
from contract.methods.tag import TaggedImage, TaggerModel, TagOutcome, TagParams, TagSettings
from contract.rules import captions, paths
from kernel.cores import cores
from kernel.jobs import Job
from kernel.manifest import Picture, pictures_of
from kernel.parcels import MAX_BYTES, Parcels, weight
from kernel.session import Session

if TYPE_CHECKING:
    from kernel.engines.pictures import Prepared
    from kernel.engines.tagger import Scores, Tagger

#: Failures that the outcome repeats, and the most bytes of them; `partial` has reported every one.
MAX_FAILED: Final = 1_000
#: Shares of a line: a parcel, the failures of an outcome and its counts have at most a quarter each.
_SHARES: Final = 4
#: Characters of a name that a failure repeats: the longest path of any system, 32,767, all of it escaped.
_MAX_NAME: Final = 98_304
#: What a notification has besides its one item.
_ENVELOPE_BYTES: Final = 1024


def run(params: TagParams, job: Job, session: Session) -> TagOutcome:
    """Tag the pictures of `params`. Raises InputError, ResourceError, RuntimeFailure, JobCanceled."""
    started = time.perf_counter()
    pictures = pictures_of(params.inputs, job.roots)
    job.progress("load", 0, len(pictures), unit="images")
    folder, root, key = _locate(params.settings.model, job, session)
    if job.canceled:
        raise _canceled(0, len(pictures), TagOutcome(tagged=0))
    from kernel.engines import tagger

    with session.models.use(
        "tagger", _name(params.settings.model), key, lambda: tagger.load(folder, allowed_root=root)
    ) as model:
        tagging = _Tagging(model, pictures, params.settings, job, session.limits)
        tagging.seconds["load_s"] = time.perf_counter() - started
        tagging.run()
    tagging.seconds["wall_s"] = time.perf_counter() - started
    outcome = tagging.outcome()
    if job.canceled and tagging.done < len(pictures):
        raise _canceled(tagging.done, len(pictures), outcome)
    return outcome


def _canceled(done: int, total: int, outcome: TagOutcome) -> JobCanceled:
    return JobCanceled(f"Canceled after {done} of {total} images.", partial=outcome)


class _Tagging:
    """One run over the pictures, and what it has come to so far."""

    def __init__(
        self, model: "Tagger", pictures: list[Picture], settings: TagSettings, job: Job, limits: Limits
    ) -> None:
        from kernel.engines.pictures import budget_for

        self._model = model
        self._pictures = pictures
        self._settings = settings
        self._job = job
        self._max_pixels = limits.max_image_pixels
        self._budget = budget_for(limits.max_image_pixels)
        self._max_line = limits.max_message_bytes
        self._floor = captions.lowest_score(settings)
        self._lock = Lock()
        self.done = 0
        self.seconds = {"load_s": 0.0, "decode_s": 0.0, "run_s": 0.0, "wall_s": 0.0}
        self._tagged = 0
        self._failed: list[FailedImage] = []
        self._failed_count = 0
        self._failed_bytes = 0
        self._counts: Counter[str] = Counter()

    def run(self) -> None:
        """Go through all pictures, until the end or until the job is canceled."""
        import onnxruntime

        from kernel.engines import pipeline

        options = onnxruntime.RunOptions()
        # A batch may take seconds on a CPU; onnxruntime ends it between two nodes.
        self._job.cancel.add_done_callback(lambda _: setattr(options, "terminate", True))
        total, plan = len(self._pictures), self._model.plan
        self._job.progress("tag", 0, total, unit="images")
        results = pipeline.stream(
            list(pipeline.batches(total, self._settings.batch_size, plan.runners)),
            self._prepare,
            lambda items: self._run(items, options),
            preparers=cores(),
            runners=plan.runners,
            stop=self._job.cancel,
        )
        most = min(MAX_BYTES, self._max_line // _SHARES)
        with Parcels(self._job.partial, interval_s=self._job.interval_s, max_bytes=most) as parcels:
            for batch, (prepared, scores) in results:
                parcels.add(*self._reported(batch, prepared, scores))
                self.done += len(batch)
                self._job.progress("tag", self.done, total, unit="images")

    def outcome(self) -> TagOutcome:
        """What there is so far.

        It has to fit into a line: `failed` has the first failures and `tag_counts` the most frequent tags,
        each in at most a quarter of a line; `failed_count` is the count of all failures.
        """
        warnings = []
        if self._model.fell_back:
            warnings.append(
                f"{self._model.fell_back} was asked for, the session runs on {self._model.provider}."
            )
        return TagOutcome(
            tagged=self._tagged,
            failed=self._failed,
            failed_count=self._failed_count,
            tag_counts=_fitting(self._counts, self._max_line // _SHARES),
            provider=self._model.provider,
            timings={name: round(seconds, 4) for name, seconds in self.seconds.items()},
            warnings=warnings,
        )

    def _prepare(self, index: int) -> "Prepared | LorakeetError":
        from kernel.engines import pictures

        started = time.thread_time()
        try:
            return pictures.prepare(
                self._pictures[index].path,
                self._model.size,
                fast=self._settings.decode == "fast",
                max_pixels=self._max_pixels,
                budget=self._budget,
            )
        except LorakeetError as error:
            # The frames of a traceback hold the picture, and it is long until this one is reported.
            error.__cause__ = error.__context__ = None
            return error.with_traceback(None)
        finally:
            self._spent("decode_s", time.thread_time() - started)

    def _run(
        self, items: "list[Prepared | LorakeetError]", options: Any
    ) -> "tuple[list[Prepared | LorakeetError], Scores | None]":
        pixels = [item.pixels for item in items if not isinstance(item, LorakeetError)]
        started = time.perf_counter()
        scores = self._model.scores(pixels, options) if pixels else None
        self._spent("run_s", time.perf_counter() - started)
        return items, scores

    def _spent(self, name: str, seconds: float) -> None:
        with self._lock:
            self.seconds[name] += seconds

    def _reported(
        self, batch: range, prepared: "list[Prepared | LorakeetError]", scores: "Scores | None"
    ) -> tuple[list[TaggedImage], list[FailedImage]]:
        rows = iter(scores if scores is not None else ())
        items: list[TaggedImage] = []
        failed: list[FailedImage] = []
        for index, item in zip(batch, prepared, strict=True):
            if isinstance(item, LorakeetError):
                failed.append(self._failure(index, item))
            else:
                try:
                    items.append(self._item(index, item, next(rows)))
                except LineTooLong as error:
                    failed.append(self._failure(index, error))
        return items, failed

    def _item(self, index: int, picture: "Prepared", scores: "Scores") -> TaggedImage:
        """Raises LineTooLong where the texts of the settings, or the tags, are more than a message holds."""
        rating, tags = self._model.rating(scores), self._model.tags(scores, self._floor)
        texts = captions.caption_tags(rating, tags, self._settings)
        item = TaggedImage(
            index=index,
            image=self._pictures[index].named,
            width=picture.width,
            height=picture.height,
            caption=self._settings.separator.join(texts),
            rating=rating,
            tags=tags,
        )
        if (size := weight(item)) > self._max_line - _ENVELOPE_BYTES:
            raise LineTooLong(
                f"The result has {size} bytes; a message may have {self._max_line}.",
                hint="Raise `score_floor`, shorten the texts of the settings, or agree on longer lines.",
            )
        self._counts.update(texts)
        self._tagged += 1
        return item

    def _failure(self, index: int, error: LorakeetError) -> FailedImage:
        named = self._pictures[index].named
        if len(named) > _MAX_NAME:
            named = cut(named)
        error.where = named
        failure = FailedImage(index=index, image=named, error=error.to_wire(job_id=self._job.job_id))
        self._failed_count += 1
        self._failed_bytes += weight(failure)
        if len(self._failed) < MAX_FAILED and self._failed_bytes <= self._max_line // _SHARES:
            self._failed.append(failure)
        return failure


def _fitting(counts: Counter[str], max_bytes: int) -> dict[str, int]:
    """The counts by falling count, as many as fit."""
    fitting: dict[str, int] = {}
    for tag, count in counts.most_common():
        max_bytes -= weight({tag: count})
        if max_bytes < 0:
            break
        fitting[tag] = count
    return fitting


def _name(model: TaggerModel) -> str:
    if model.repo is None:
        return f"tagger:{model.path}"
    return f"tagger:{model.repo}" + (f"@{model.revision}" if model.revision else "")


def _locate(model: TaggerModel, job: Job, session: Session) -> tuple[str, str | None, tuple[Any, ...]]:
    """Folder, where its links may lead, and a key that changes when its files do."""
    from kernel.engines import tagger

    if model.path is not None:
        folder, root = job.roots.resolve(model.path, "$.params.settings.model.path"), None
    else:
        folder, root = _fetched(model, job, session)
    files = tagger.files(folder)
    for path in files if root is None else ():
        job.roots.resolve(paths.to_wire(path), "$.params.settings.model.path")
    return folder, root, (folder, *tagger.stamp(folder))


def _fetched(model: TaggerModel, job: Job, session: Session) -> tuple[str, str]:
    from kernel.engines import hub, tagger

    assert model.repo is not None

    def progress(done: int, total: int) -> None:
        if job.canceled:
            raise hub.Stopped
        job.progress("download", done, total or None, unit="bytes", message=model.repo)

    # On a thread of its own: the hub's library looks up every ten megabytes, a canceled job answers at once.
    with ExitStack() as stack:
        pool = ThreadPoolExecutor(1, "fetch")
        stack.callback(pool.shutdown, wait=False)
        names = [tagger.LABELS_FILE, tagger.MODEL_FILE]
        token = session.keys.get(hub.SERVICE)
        fetched = pool.submit(hub.fetch, model.repo, names, model.revision, progress, token)
        either: list[Future[Any]] = [fetched, job.cancel]
        wait(either, return_when=FIRST_COMPLETED)
        if not fetched.done() or isinstance(fetched.exception(), hub.Stopped):
            raise JobCanceled("Canceled while the model was being fetched.", partial=TagOutcome(tagged=0))
        return fetched.result()
