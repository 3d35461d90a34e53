"""The files that jobs work on: below the roots, or among the models, those of other programs included."""

from typing import TYPE_CHECKING

import anyio.to_thread

if TYPE_CHECKING:
    from orchestrator.studio import Studio


async def file_of(studio: "Studio", root: str, path: str) -> str:
    """Where a file is, as this system names it.

    A model is found by the root and path that it is listed with, also where that is a link. Raises
    InvalidParams, PathOutsideRoots, FileMissing and FileUnreadable.
    """
    if (model := await studio.models.at(root, path)) is not None:
        return model
    return str(await anyio.to_thread.run_sync(studio.roots.resolve, root, path))
