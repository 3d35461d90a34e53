"""`train`, version 2: pictures with their texts in; a LoRA, and on the way metrics, samples and checkpoints.

Each table of the settings has a file of its own in `contract.methods.training`. What one field says of
another of its table is checked there; here is checked what tables say of each other.
"""

from collections.abc import Iterator
from typing import Annotated, Final, Literal

from msgspec import Meta

from contract.base import Reply, Strict
from contract.fields import field, one_of
from contract.methods.job import FailedImage, JobParams, Outcome
from contract.methods.training.caching import Caching
from contract.methods.training.checkpoints import Checkpoints
from contract.methods.training.components import TEXT_ENCODERS
from contract.methods.training.data import TrainData
from contract.methods.training.engine import Engine, NativeEngine
from contract.methods.training.logging import Logging
from contract.methods.training.loop import Training
from contract.methods.training.memory import Memory
from contract.methods.training.metadata import TrainMetadata
from contract.methods.training.model import TrainModel
from contract.methods.training.network import LoraNetwork, Network
from contract.methods.training.objective import Objective
from contract.methods.training.optimizer import (
    Adafactor,
    AdamW,
    Optimizer,
    is_schedule_free,
)
from contract.methods.training.plan import TrainPlan
from contract.methods.training.precision import Precision
from contract.methods.training.sampling import Sampling
from contract.methods.training.saving import Saving
from contract.methods.training.schedule import Constant, Cosine, Schedule
from contract.methods.training.subsets import Subset
from contract.validation import Contradiction

#: The orders that a running job takes.
TrainAction = Literal["save_now", "sample_now", "stop_after_epoch"]
ACTIONS: Final[tuple[TrainAction, ...]] = ("save_now", "sample_now", "stop_after_epoch")


class TrainSettings(Strict, frozen=True, kw_only=True):
    """Everything that a user chooses about training a network."""

    engine: Annotated[Engine, field("Engine", "What does the training.", detail="expert")] = NativeEngine()
    model: Annotated[TrainModel, field("Model", "What is trained upon.")]
    network: Annotated[Network, field("Network", "What is trained beside the model.")] = LoraNetwork()
    subsets: Annotated[
        list[Subset],
        field(
            "Subsets",
            "Folders of the source that have a way of their own. Those with names such as `10_cat` are "
            "subsets without being listed here.",
        ),
    ] = []
    data: Annotated[TrainData, field("Data", "What becomes of the pictures and their texts.")] = TrainData()
    caching: Annotated[Caching, field("Caching", "What is encoded once and kept.", detail="advanced")] = (
        Caching()
    )
    precision: Annotated[
        Precision, field("Precision", "The numbers that are computed with.", detail="advanced")
    ] = Precision()
    memory: Annotated[Memory, field("Memory", "What is done to need less of it.", detail="advanced")] = (
        Memory()
    )
    training: Annotated[
        Training,
        field(
            "Training",
            "How long, in what portions, and from which seed.",
            schema=one_of("epochs", "steps"),
        ),
    ]
    optimizer: Annotated[
        Optimizer, field("Optimizer", "How gradients become changes, and how fast each part learns.")
    ] = AdamW()
    schedule: Annotated[Schedule, field("Schedule", "How the learning rate goes on.")] = Cosine()
    objective: Annotated[
        Objective, field("Objective", "What is learned, and what counts.", detail="advanced")
    ] = Objective()
    sampling: Annotated[Sampling, field("Samples", "Pictures that show how far the training is.")] = (
        Sampling()
    )
    checkpoints: Annotated[
        Checkpoints, field("Checkpoints", "States of the run to go on from.", detail="advanced")
    ] = Checkpoints()
    saving: Annotated[Saving, field("Files", "The files of weights that are made.")] = Saving()
    metadata: Annotated[TrainMetadata, field("Metadata", "What the files of weights say of themselves.")] = (
        TrainMetadata()
    )
    logging: Annotated[Logging, field("Metrics", "What is noted down on the way.", detail="expert")] = (
        Logging()
    )

    def __post_init__(self) -> None:
        problems = [*self._of_model(), *self._of_subsets(), *self._of_caching(), *self._of_schedule()]
        if problems:
            raise Contradiction(*problems)

    @property
    def trains_text_encoders(self) -> bool:
        """Whether any text encoder is trained."""
        return self.optimizer.trains(*TEXT_ENCODERS)

    @property
    def crops_randomly(self) -> bool:
        """Whether pictures are cropped at another place in each epoch, if only some."""
        return self.data.random_crop or any(each.crops_randomly(self.data) for each in self.subsets)

    def caches_latents(self, subset: Subset | None = None) -> bool:
        """What `caching.latents` comes to for a subset, or for folders that have no way of their own."""
        crops = self.data.random_crop if subset is None else subset.crops_randomly(self.data)
        return self.caching.latents != "off" and not crops

    @property
    def caches_text(self) -> bool:
        """What `caching.text` comes to."""
        return self.caching.text == "on" or (self.caching.text == "auto" and not self.trains_text_encoders)

    def _of_model(self) -> Iterator[tuple[str, str]]:
        if self.model.prediction == "epsilon" and self.objective.scale_v_loss:
            yield (
                "objective.scale_v_loss",
                "needs a model that predicts `v`, and `model.prediction` is `epsilon`",
            )
        if self.model.family == "sd15" and "te2" in self.optimizer.rates:
            yield 'optimizer.rates["te2"]', "an `sd15` model has one text encoder, `te1`"

    def _of_subsets(self) -> Iterator[tuple[str, str]]:
        names = [subset.name for subset in self.subsets]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield f"subsets[{index}].name", f"`{name}` is a subset already"

    def _of_caching(self) -> Iterator[tuple[str, str]]:
        if self.caching.latents == "on" and self.crops_randomly:
            yield "caching.latents", "a random crop has other latents in every epoch; needs `auto` or `off`"
        if self.caching.text == "on" and self.trains_text_encoders:
            yield (
                "caching.text",
                "a text encoder that is trained has other embeddings in every step; needs `auto` or `off`",
            )

    def _of_schedule(self) -> Iterator[tuple[str, str]]:
        if is_schedule_free(self.optimizer) and not isinstance(self.schedule, Constant):
            kind = self.optimizer.__struct_config__.tag
            yield "schedule.type", f"`{kind}` needs no schedule; choose `constant`"
        if isinstance(self.optimizer, Adafactor) and self.optimizer.relative_step:
            yield from self._of_relative_step()
        if self.training.steps is not None and self.schedule.warmup_steps >= self.training.steps:
            yield "schedule.warmup_steps", f"must be below `training.steps`, {self.training.steps}"

    def _of_relative_step(self) -> Iterator[tuple[str, str]]:
        reason = "with `optimizer.relative_step` the rate is chosen already"
        if not isinstance(self.schedule, Constant):
            yield "schedule.type", f"{reason}; choose `constant`"
        for name in ("warmup_steps", "warmup_share"):
            if getattr(self.schedule, name):
                yield f"schedule.{name}", f"{reason}; leave it out"


class TrainInputs(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """The pictures, and where to go on from.

    `folders` are absolute paths; the first attempt looks at them and writes into the run's folder what it
    found, so that later ones have the same. The items of a `manifest` (JSON lines of ManifestItem) say of
    each picture its caption and its `subset`, by the path of its folder from the source on. `checkpoint` is
    the absolute path of a checkpoint of another job; a higher attempt of a job goes on from its own.
    """

    folders: Annotated[list[str], Meta(min_length=1)] | None = None
    manifest: str | None = None
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        if (self.folders is None) == (self.manifest is None):
            raise Contradiction(("folders", "give exactly one of `folders` and `manifest`"))


class TrainOutput(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """Where things go, as absolute paths under the roots.

    `file` is the LoRA, ending in `.safetensors`; those of epochs and steps lie beside it. `run` is the folder
    of the job, with its checkpoints, samples and metrics, and `cache` that of the caches, which jobs share;
    left out, it is in `run`. A `file` that is there already is refused unless `overwrite`.
    """

    file: str
    run: str
    cache: str | None = None
    overwrite: bool = False


class TrainParams(JobParams, frozen=True, kw_only=True):
    """The request of `train`. With `plan_only` it looks at the pictures and says what would be done with
    them, in `plan` of the outcome: nothing is trained or written but what is remembered of pictures."""

    v: Literal[2]
    inputs: Annotated[TrainInputs, Meta(extra_json_schema=one_of("folders", "manifest"))]
    outputs: TrainOutput
    settings: TrainSettings
    plan_only: bool = False


class TrainMetrics(Reply, kw_only=True):
    """One item of `partial`, and one line of `metrics.jsonl` in the folder of the run.

    `step` and `epoch` count from 1. `loss` is the mean since the last item, `loss_average` that of the last
    epoch's worth of steps. `rates` are by component, and what the optimizer made of them where it finds its
    own. `grad_norm` is from before clipping. `seconds` passed since the last item; the share `data_wait` of
    them was spent waiting for pictures. `memory` is the peak in bytes.
    """

    step: int
    epoch: int
    loss: float
    loss_average: float
    rates: dict[str, float]
    grad_norm: float | None = None
    seconds: float
    images_per_s: float
    data_wait: float
    memory: int | None = None


class SavedFile(Reply, kw_only=True):
    """A file of weights from on the way; `epoch` is the one it was made at the end of, None for a step."""

    file: str
    bytes: int
    sha256: str
    step: int
    epoch: int | None = None


class TrainOutcome(Outcome, kw_only=True):
    """How a training ended. `steps` and `epochs` are those done in all attempts, `loss` the mean of the last
    epoch's worth of steps. `saved` are the files of weights that stay beside `file`, `checkpoint` is the
    state to go on from. `failed` has the first of the `failed_count` pictures that were left out.
    `memory` is the peak in bytes by phase. `timings`: seconds by phase, and wall_s. What a job has made until
    it was canceled has no `file`."""

    file: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    steps: int
    epochs: int
    loss: float | None = None
    saved: list[SavedFile] = []
    checkpoint: str | None = None
    samples: int = 0
    stopped_early: bool = False
    plan: TrainPlan | None = None
    failed: list[FailedImage] = []
    failed_count: int = 0
    memory: dict[str, int] = {}
