"""`Idempotency-Key`: a POST that comes again has its effect once, and gets the answer of the first.

The key is kept before the work begins, with a ULID of which all ids of this request are made. Should the
studio die before it has answered, the same request makes the same things again, which are then there already.
"""

import hashlib
import re
import sqlite3
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from contract.errors import InvalidParams, KeyReused, StateConflict
from orchestrator.clock import now_ms
from orchestrator.ids import new_ulid

if TYPE_CHECKING:
    from orchestrator.studio import Studio

KEEP_MS: Final = 24 * 3600 * 1000
_KEY: Final = re.compile(r"[!-~]{1,255}")
#: Headers of the first answer that belong to it, and not to its moment.
_KEPT_HEADERS: Final = ("content-type", "location", "etag")


class _Claim(NamedTuple):
    minted: str
    stored: sqlite3.Row | None


async def once(
    studio: "Studio",
    request: Request,
    raw: bytes,
    carry_out: Callable[[str | None], Awaitable[Response]],
) -> Response:
    """What `carry_out` answers, or what it answered when this request came first.

    Raises InvalidParams, KeyReused, and StateConflict while the first is still being carried out.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return await carry_out(None)
    if not _KEY.fullmatch(key):
        raise InvalidParams("Idempotency-Key: write 1 to 255 visible characters.", where="Idempotency-Key")
    if key in studio.keys_in_use:
        raise StateConflict("A request with this key is being carried out; its answer is not there yet.")
    studio.keys_in_use.add(key)
    try:
        digest = _digest(request, raw)
        claim = await studio.control.write(lambda db: _claim(db, key, digest, studio.boot.boot_id))
        if claim.stored is not None:
            return _replayed(claim.stored)
        return await _first(studio, key, await _tried(studio, key, claim.minted, carry_out))
    finally:
        studio.keys_in_use.discard(key)


async def _tried(
    studio: "Studio", key: str, minted: str, carry_out: Callable[[str | None], Awaitable[Response]]
) -> Response:
    try:
        return await carry_out(minted)
    except Exception:
        # Nothing was done, so nothing needs to be remembered.
        await studio.control.write(lambda db: db.execute("DELETE FROM idempotency WHERE key = ?", (key,)))
        raise


async def _first(studio: "Studio", key: str, response: Response) -> Response:
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    row = (response.status_code, msgspec.json.encode(headers), bytes(response.body), key)
    await studio.control.write(lambda db: db.execute(_SETTLE, row))
    return response


def _claim(db: sqlite3.Connection, key: str, digest: bytes, boot_id: str) -> _Claim:
    now = now_ms()
    db.execute("DELETE FROM idempotency WHERE created_ms < ?", (now - KEEP_MS,))
    row = db.execute("SELECT * FROM idempotency WHERE key = ?", (key,)).fetchone()
    if row is None:
        minted = new_ulid()
        db.execute(_TAKE, (key, digest, minted, boot_id, now))
        return _Claim(minted, None)
    if row["request"] != digest:
        raise KeyReused("This key was used for another request.", hint="Take a new key for a new request.")
    return _Claim(row["minted"], None if row["status"] is None else row)


_TAKE: Final = "INSERT INTO idempotency (key, request, minted, boot_id, created_ms) VALUES (?, ?, ?, ?, ?)"
_SETTLE: Final = "UPDATE idempotency SET status = ?, headers = ?, body = ? WHERE key = ?"


def _digest(request: Request, raw: bytes) -> bytes:
    """What makes two requests the same. A body that is read as it comes is known by its length only."""
    length = request.headers.get("content-length", "") if not raw else ""
    said = (request.method, request.scope["path"], request.scope["query_string"].decode("latin-1"), length)
    return hashlib.sha256(msgspec.json.encode(said) + raw).digest()


def _replayed(row: sqlite3.Row) -> Response:
    headers = msgspec.json.decode(row["headers"], type=dict[str, str])
    return Response(
        row["body"],
        status_code=row["status"],
        headers=headers | {"idempotency-replayed": "true"},
    )
