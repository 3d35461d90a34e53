"""The kinds of jobs: their settings, where they run, and how often they are tried again."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec

from contract.methods.merge import MergeSettings
from contract.methods.metadata import MetadataSettings
from contract.methods.resize import ResizeSettings
from contract.methods.tag import TagSettings
from contract.methods.train import ACTIONS, TrainSettings
from contract.methods.training.layers import layered
from orchestrator.datasets.importing import ImportSettings, ImportWork
from orchestrator.datasets.thumbnails_work import ThumbnailSettings, ThumbnailsWork
from orchestrator.jobs.chooser import LaneKind
from orchestrator.jobs.work import KernelWork, StudioWork
from orchestrator.models import output_names
from orchestrator.presets import laid_under

#: Seconds that a job may take to end when the studio stops.
STOP_S: Final = 4.0
#: The same of a training, which writes a checkpoint after the step that it is in.
CHECKPOINT_S: Final = 30.0
#: Attempts of a training that nobody asks for: it takes days, and each goes on where the last one ended.
_TRAIN_RETRIES: Final = 5

#: What a job works on: a dataset, or files below the roots.
SourceKind = Literal["dataset", "files", "folders"]
#: Makes the work of one attempt.
MakeWork = Callable[[], KernelWork | StudioWork]
#: Names what a job makes, from its whole settings and the names in its source, where its request does not.
NameOutput = Callable[[Mapping[str, Any], list[str]], str]
#: Lays settings over others that need not be whole.
Layered = Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of job. `settings` is a Struct, or a union of some that a tag tells apart.

    `lane`: `device` runs on devices only, `cpu` beside them, `studio` needs no kernel. `prefers_device`: of
    the lane `cpu`, but faster on a GPU that is free. `retries` are attempts after the first that are made
    without being asked for. `resumable`: a later attempt goes on where the earlier one stopped, so it can be
    paused. `sources`: what it can work on, of files at most `max_files`; none means that it takes no source.
    `ending` is that of the one file that it makes below the outputs; `name_output` names it. `makes_steps`:
    files on the way to it lie beside it. `actions` are the orders that a running one takes.
    `takes_checkpoint`: it can go on from what an earlier job of its kind has kept. `measures`: what it
    measures comes apart from its progress, whose metrics are not kept then. `layered` lays settings over
    those of a preset or an earlier job. `stop_s` are the seconds that one may take to end when the studio
    stops, before its kernel is killed.
    """

    name: str
    title: str
    settings: Any
    lane: LaneKind
    work: MakeWork
    retries: int = 2
    resumable: bool = False
    prefers_device: bool = False
    sources: tuple[SourceKind, ...] = ("dataset",)
    max_files: int | None = None
    takes_existing: bool = False
    ending: str | None = None
    name_output: NameOutput | None = None
    makes_steps: bool = False
    actions: tuple[str, ...] = ()
    takes_checkpoint: bool = False
    measures: bool = False
    layered: Layered = laid_under
    stop_s: float = STOP_S


def _tag() -> KernelWork:
    from orchestrator.datasets.tagging import TagWork

    return TagWork()


def _surgery(method: str, settings: Any) -> MakeWork:
    def make() -> KernelWork:
        from orchestrator.models.surgery import SurgeryWork

        return SurgeryWork(method, settings)

    return make


def _train() -> KernelWork:
    from orchestrator.training.work import TrainWork

    return TrainWork()


def _of_training(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    return layered(TrainSettings, below, above)


_TABLE: Final = (
    Kind(
        name="tag",
        title="Tag pictures",
        settings=TagSettings,
        lane="cpu",
        work=_tag,
        prefers_device=True,
        sources=("dataset", "files"),
        takes_existing=True,
    ),
    Kind(
        name="train",
        title="Train a LoRA",
        settings=TrainSettings,
        lane="device",
        work=_train,
        resumable=True,
        sources=("dataset", "folders"),
        ending=".safetensors",
        name_output=output_names.trained,
        makes_steps=True,
        actions=ACTIONS,
        takes_checkpoint=True,
        measures=True,
        layered=_of_training,
        retries=_TRAIN_RETRIES,
        stop_s=CHECKPOINT_S,
    ),
    Kind(
        name="resize",
        title="Resize a LoRA",
        settings=ResizeSettings,
        lane="cpu",
        work=_surgery("resize", ResizeSettings),
        prefers_device=True,
        sources=("files",),
        max_files=1,
        ending=".safetensors",
        name_output=output_names.resized,
    ),
    Kind(
        name="merge",
        title="Merge models",
        settings=MergeSettings,
        lane="cpu",
        work=_surgery("merge", MergeSettings),
        prefers_device=True,
        sources=(),
        ending=".safetensors",
        name_output=output_names.merged,
    ),
    Kind(
        name="metadata",
        title="Edit metadata",
        settings=MetadataSettings,
        lane="cpu",
        work=_surgery("metadata", MetadataSettings),
        sources=("files",),
        max_files=1,
        ending=".safetensors",
    ),
    Kind(name="import", title="Import files", settings=ImportSettings, lane="studio", work=ImportWork),
    Kind(
        name="thumbnails",
        title="Make thumbnails",
        settings=ThumbnailSettings,
        lane="studio",
        work=ThumbnailsWork,
    ),
)

#: Every kind by its name.
KINDS: Final[Mapping[str, Kind]] = {kind.name: kind for kind in _TABLE}
