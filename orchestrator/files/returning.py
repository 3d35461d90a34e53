"""After a crash: what was on its way to the trash, and is still listed, goes back: nobody was told of it."""

from contextlib import suppress
from typing import Final

from anyio import to_thread

from contract.errors import LorakeetError
from orchestrator.files.trash import Trash, Trashed
from orchestrator.store.database import Database

#: By what it was, whether it is still listed.
_LISTED: Final = {
    "dataset": "SELECT 1 FROM datasets WHERE root = :root AND path = :path",
    "image": (
        "SELECT 1 FROM images i JOIN datasets d ON d.id = i.dataset_id WHERE i.removed_ms IS NULL"
        " AND d.root = :root AND ltrim(d.path || '/' || i.path, '/') = :path"
    ),
    "job": "SELECT 1 FROM jobs WHERE id = :path",
}


async def bring_back(control: Database, trash: Trash) -> None:
    """Undo what was half done. Raises StoreDamaged."""
    for trashed in await to_thread.run_sync(trash.list):
        if await _is_listed(control, trashed):
            # Its place may have been taken since, and then it is where it belongs.
            with suppress(LorakeetError):
                await to_thread.run_sync(trash.restore, trashed.id)


async def _is_listed(control: Database, trashed: Trashed) -> bool:
    query = _LISTED.get(trashed.kind)
    if query is None:
        return False
    place = {"root": trashed.root, "path": trashed.path}
    return await control.read(lambda db: db.execute(query, place).fetchone()) is not None
