"""Thumbnails by the content of the image: the same address shows the same picture for ever."""

from pathlib import Path
from typing import Annotated, Final

import msgspec

from contract.errors import (
    FileMissing,
    FileUnreadable,
    FileUnwritable,
    ImageEmpty,
    ImageInvalid,
    ImageTooLarge,
    ImageTruncated,
    LorakeetError,
    NotFound,
    OutOfMemory,
    PathOutsideRoots,
    WorkerDied,
    WorkerTimeout,
)
from orchestrator.api.calls import Call, FileAnswer
from orchestrator.api.registry import Routes
from orchestrator.workers.tasks import ThumbnailSize

routes: Final = Routes("thumbnails")

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]

_ERRORS: Final = (
    NotFound,
    FileMissing,
    FileUnreadable,
    FileUnwritable,
    PathOutsideRoots,
    ImageEmpty,
    ImageInvalid,
    ImageTruncated,
    ImageTooLarge,
    OutOfMemory,
    WorkerDied,
    WorkerTimeout,
)


@routes.get("/thumbnails/{sha256}/{size}.webp", gives="image/webp", errors=_ERRORS)
async def read_thumbnail(call: Call, sha256: Sha256, size: ThumbnailSize) -> FileAnswer:
    """A small WEBP of the image that has this content: 128, 256 or 512 pixels at its longest side."""
    library = call.studio.datasets
    found = await library.images.of_content(sha256)
    error: LorakeetError = NotFound("There is no such picture.")
    for image in found:
        try:
            place = await library.place(await library.table.get(image.dataset_id))
            path = await library.thumbnails.get(sha256, size, place.path(image.path), Path(place.root))
        except (FileMissing, FileUnreadable, PathOutsideRoots) as another:
            # This file is another one by now; the same picture may lie elsewhere.
            error = another
            continue
        return FileAnswer(
            path=path,
            media_type="image/webp",
            name=f"{sha256}.{size}.webp",
            inline=True,
            immutable=True,
            etag=f'"{sha256}.{size}"',
        )
    raise error
