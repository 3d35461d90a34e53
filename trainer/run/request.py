"""What a run is asked for: settings and real, absolute paths."""

import msgspec

from contract.methods.job import ManifestItem
from contract.methods.train import TrainSettings
from trainer.data.picture import MAX_PIXELS


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Of `folders` and `items` one is given. `folder` is the run's own, `output` the LoRA that it makes,
    `cache` the folder that runs share. `checkpoint` is one of another run to go on from. A file at `output`
    is refused unless `overwrite`, or it is this run's own from before.

    With `roots`, real paths of folders, no link in `folders` is followed out of them.

    `settings` are as they were sent; the files that they name are those of `model`, `vae`, `start_from` and
    `prompts`. With `plan_only` nothing is trained.
    """

    settings: TrainSettings
    model: str
    vae: str | None = None
    start_from: str | None = None
    prompts: str | None = None
    folders: list[str] | None = None
    items: list[ManifestItem] | None = None
    roots: list[str] | None = None
    checkpoint: str | None = None
    folder: str
    output: str
    cache: str
    overwrite: bool = False
    plan_only: bool = False
    max_pixels: int = MAX_PIXELS
