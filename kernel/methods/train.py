"""`train`: pictures with their texts in; a LoRA, and on the way metrics, samples and checkpoints."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from contract.methods.job import ManifestItem
from contract.methods.train import TrainAction, TrainMetrics, TrainOutcome, TrainParams
from contract.methods.weights import WeightsFile
from contract.notifications import Artifact
from contract.rules.paths import to_wire
from kernel.jobs import Job
from kernel.manifest import items_of
from kernel.parcels import Parcels
from kernel.session import Session

if TYPE_CHECKING:
    from trainer.run.request import Request
    from trainer.run.watcher import Made, Wish

_SETTINGS: Final = "$.params.settings"


def run(params: TrainParams, job: Job, session: Session) -> TrainOutcome:
    """Train what `params` ask for. Raises InputError, ResourceError, RuntimeFailure, JobCanceled."""
    job.progress("preflight")
    from trainer.families.libraries import undisturbed
    from trainer.run.before import check_before
    from trainer.run.preflight import known_of

    # What cannot be used is refused before torch is loaded, which takes seconds.
    request = _request(params, job, session)
    known = known_of(request)
    check_before(request)
    job.progress("load")
    with undisturbed():
        from trainer.run.train import train

    with Parcels(job.partial, interval_s=job.interval_s) as parcels:
        watcher = _Watcher(job, parcels)
        outcome = train(request, known, watcher)
    outcome.artifacts = watcher.artifacts
    return outcome


class _Watcher:
    """A run's watcher that tells the host."""

    def __init__(self, job: Job, parcels: Parcels) -> None:
        self.artifacts: list[Artifact] = []
        self._job = job
        self._parcels = parcels

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
        self._job.progress(phase, done, total, unit=unit, message=message, metrics=metrics)

    def wish(self) -> "Wish | None":
        if not self._job.canceled:
            return None
        return "now" if self._job.wanted_now else self._job.cancel.result()

    def orders(self) -> list[TrainAction]:
        found: list[Any] = []
        while not self._job.orders.empty():
            found.append(self._job.orders.get_nowait())
        return found

    def metrics(self, item: TrainMetrics) -> None:
        self._parcels.add([item], [])

    def made(self, made: "Made") -> None:
        artifact = Artifact(
            job_id=self._job.job_id,
            role=made.role,
            path=to_wire(made.path),
            bytes=made.bytes,
            sha256=made.sha256,
            media_type=made.media_type,
            labels=dict(made.labels),
        )
        if made.role == "lora":
            self.artifacts.append(artifact)
        # A host hears of a step before what was made of it.
        self._parcels.flush()
        self._job.artifact(artifact)

    def log(self, level: Literal["info", "warning"], text: str) -> None:
        self._job.log(level, text)


def _request(params: TrainParams, job: Job, session: Session) -> "Request":
    """With real paths, all of them under the roots.

    Raises PathNotAbsolute, PathOutsideRoots, ManifestInvalid, NoImages, FileMissing, FileUnreadable.
    """
    from trainer.run.request import Request

    settings, inputs, outputs = params.settings, params.inputs, params.outputs
    run = job.roots.resolve(outputs.run, "$.params.outputs.run")
    prompts = settings.sampling.file

    def real(path: str | None, where: str) -> str | None:
        return None if path is None else job.roots.resolve(path, where)

    def weights(file: WeightsFile | None, field: str) -> str | None:
        return real(None if file is None else file.path, f"{_SETTINGS}.{field}.path")

    return Request(
        settings=settings,
        model=job.roots.resolve(settings.model.base.path, f"{_SETTINGS}.model.base.path"),
        vae=weights(settings.model.vae, "model.vae"),
        start_from=weights(settings.network.start_from, "network.start_from"),
        prompts=real(prompts, f"{_SETTINGS}.sampling.file"),
        folders=_folders(params, job),
        items=_items(params, job),
        roots=job.roots.paths,
        checkpoint=real(inputs.checkpoint, "$.params.inputs.checkpoint"),
        folder=run,
        output=job.roots.resolve(outputs.file, "$.params.outputs.file"),
        cache=real(outputs.cache, "$.params.outputs.cache") or run,
        overwrite=outputs.overwrite,
        plan_only=params.plan_only,
        max_pixels=session.limits.max_image_pixels,
    )


def _folders(params: TrainParams, job: Job) -> list[str] | None:
    if params.inputs.folders is None:
        return None
    return [
        job.roots.resolve(folder, f"$.params.inputs.folders[{index}]")
        for index, folder in enumerate(params.inputs.folders)
    ]


def _items(params: TrainParams, job: Job) -> list[ManifestItem] | None:
    return None if params.inputs.manifest is None else items_of(params.inputs.manifest, job.roots)
