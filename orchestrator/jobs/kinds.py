"""The kinds of jobs: their settings, where they run, and how often they are tried again."""

from collections.abc import Callable, Mapping
from typing import Final, Literal

import msgspec

from contract.methods.tag import TagSettings
from orchestrator.datasets.importing import ImportSettings, ImportWork
from orchestrator.datasets.thumbnails_work import ThumbnailSettings, ThumbnailsWork
from orchestrator.jobs.chooser import LaneKind
from orchestrator.jobs.work import KernelWork, StudioWork

#: What a job works on: a dataset, or files below the roots.
SourceKind = Literal["dataset", "files"]
#: Makes the work of one attempt.
MakeWork = Callable[[], KernelWork | StudioWork]


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of job.

    `lane`: `device` runs on devices only, `cpu` beside them, `studio` needs no kernel. `prefers_device`: of
    the lane `cpu`, but faster on a GPU that is free. `retries` are attempts after the first that are made
    without being asked for. `resumable`: a later attempt goes on where the earlier one stopped, so it can be
    paused. `sources`: what it can work on; none means that it takes no source.
    """

    name: str
    title: str
    settings: type[msgspec.Struct]
    lane: LaneKind
    work: MakeWork
    retries: int = 2
    resumable: bool = False
    prefers_device: bool = False
    sources: tuple[SourceKind, ...] = ("dataset",)
    takes_existing: bool = False


def _tag() -> KernelWork:
    from orchestrator.datasets.tagging import TagWork

    return TagWork()


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
