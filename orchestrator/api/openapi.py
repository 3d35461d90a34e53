"""Writes the registry as an OpenAPI 3.1 document: `python -m orchestrator.api.openapi [--check]`.

One call makes all components, so that every Struct has one name. What OpenAPI 3.1 has no words for stands
under `x-`: the errors of an operation by their codes, and the events of the stream.
"""

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from contract.errors import (
    BodyInvalid,
    BodyTooLarge,
    CrossSite,
    DiskFull,
    HostRefused,
    InvalidParams,
    KeyReused,
    LorakeetError,
    MediaTypeWrong,
    NotFound,
    NotReady,
    StaleVersion,
    StateConflict,
    StoreDamaged,
    TooManyAttempts,
    Unauthorized,
    VersionRequired,
    leaves,
)
from contract.export import portable, pretty
from orchestrator import __version__
from orchestrator.api import problems
from orchestrator.api.operations import operations
from orchestrator.api.problems import status_of
from orchestrator.api.registry import SPECIAL, Operation

FILE: Final = Path(__file__).resolve().parent.parent / "openapi.json"
GENERATED_BY: Final = "python -m orchestrator.api.openapi"
_REF: Final = "#/components/schemas/{name}"

#: What may happen to any request that needs a token: kept out, broken, or the disk below us.
_ALWAYS: Final = (Unauthorized, CrossSite, HostRefused, TooManyAttempts, NotReady, StoreDamaged)
_TITLES: Final = {
    200: "As asked.",
    201: "Made.",
    202: "Taken; it goes on by itself.",
    204: "Done; there is nothing to say.",
    206: "The part that was asked for.",
    304: "As it was.",
}


def document() -> dict[str, Any]:
    """The whole API."""
    rows = list(operations())
    types = {each.__name__: each for each in _types(rows)}
    schemas, components = msgspec.json.schema_components(list(types.values()), ref_template=_REF)
    shown = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for row in rows:
        paths.setdefault(row.full_path, {})[row.method.lower()] = _operation(row, shown, components)
    whole: dict[str, Any] = portable(
        {
            "openapi": "3.1.1",
            "info": {
                "title": "Lorakeet",
                "version": __version__,
                "description": _ABOUT,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
                "x-generated-by": GENERATED_BY,
            },
            "servers": [{"url": "/"}],
            "security": [{"bearer": []}, {"session": []}],
            "tags": [{"name": name} for name in dict.fromkeys(row.tag for row in rows)],
            "paths": paths,
            "components": {"schemas": components, "securitySchemes": _SECURITY},
            "x-problems": [_problem(each) for each in leaves()],
        }
    )
    return whole


_ABOUT: Final = (
    "Everything that the studio does. Errors are problems as RFC 9457 has them: branch on `code`. Clients "
    "ignore fields of answers that they do not know; in requests unknown fields are refused. Times are RFC "
    "3339 in UTC. Integers are written without a fraction."
)
_SECURITY: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "lorakeet_PORT",
        "description": "For browsers; the name ends with the port. Comes from the one-time link.",
    },
}


def _types(rows: list[Operation]) -> Iterator[type[msgspec.Struct]]:
    yield problems.Problem
    for row in rows:
        for each in (row.body, row.reply):
            if each is not None and each not in SPECIAL:
                yield each


def _operation(row: Operation, shown: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": row.name,
        "tags": [row.tag],
        "summary": row.summary,
        "parameters": list(_parameters(row)),
        "responses": _responses(row, shown),
    }
    if row.description:
        made["description"] = row.description
    if row.is_public:
        made["security"] = []
    if row.body is not None:
        content = {"application/json": {"schema": shown[row.body.__name__]}}
        made["requestBody"] = {"required": True, "content": content}
    elif row.takes is not None:
        made["requestBody"] = {"required": True, "content": {row.takes: {"schema": _TAKEN[row.takes]}}}
    return made


#: Bodies that are read as they come: files, each in a part of its own.
_TAKEN: Final = {
    "multipart/form-data": {
        "type": "object",
        "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
    }
}


def _parameters(row: Operation) -> Iterator[dict[str, Any]]:
    for name, wanted in row.path_types.items():
        yield {"name": name, "in": "path", "required": True, "schema": msgspec.json.schema(wanted)}
    if row.query is not None:
        schema = msgspec.json.schema(row.query)["$defs"][row.query.__name__]
        for name, each in schema["properties"].items():
            text = each.get("description") or next(
                (arm["description"] for arm in each.get("anyOf", ()) if "description" in arm), None
            )
            parameter = {"name": name, "in": "query", "required": name in schema.get("required", ())}
            yield parameter | {"schema": _without_null(each)} | ({"description": text} if text else {})
    if row.needs_match:
        yield _header("If-Match", "The ETag of the version that is changed.", required=True)
    if row.gives == "text/event-stream":
        yield _header(
            "Last-Event-ID", "Id of the last event seen, as browsers send it.", pattern=r"^\d{1,19}$"
        )
    if row.takes_key:
        yield _header("Idempotency-Key", "The same key again means the same request.", maxLength=255)


def _header(name: str, text: str, *, required: bool = False, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": text,
        "schema": {"type": "string", "minLength": 1, "pattern": "^[!-~]+$"} | schema,
    }


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is left out where a field would be null."""
    arms = [arm for arm in schema.get("anyOf", ()) if arm != {"type": "null"}]
    kept = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    if len(arms) == 1:
        return {**kept, **arms[0]}
    default = {"default": schema["default"]} if schema.get("default") is not None else {}
    return kept | default | ({"anyOf": arms} if arms else {})


def _responses(row: Operation, shown: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for status in _statuses(row):
        made[str(status)] = {"description": _TITLES[status]} | _content(row, shown, status)
    failures: dict[int, list[str]] = {}
    for error in dict.fromkeys(_failures(row)):
        failures.setdefault(status_of(error), []).append(error.kind)
    problem = {problems.MEDIA_TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}}
    for status, kinds in sorted(failures.items()):
        text = ", ".join(f"`{kind}`" for kind in sorted(set(kinds)))
        made[str(status)] = {"description": text, "content": problem}
    return made


def _statuses(row: Operation) -> list[int]:
    if row.reply is None:
        return [204 if row.status == 200 else row.status]
    statuses = [row.status]
    if _is_file(row):
        statuses += [206, 304]
    elif row.has_etag and row.method == "GET":
        statuses.append(304)
    # A job that was waited for, and a cancel of what had ended, are answered as done.
    return [*statuses, 200] if row.status == 202 else statuses


def _content(row: Operation, shown: dict[str, Any], status: int) -> dict[str, Any]:
    if row.reply is None or status == 304:
        return {}
    if row.reply in SPECIAL:
        kind = row.gives or "*/*"
        # Of an event stream OpenAPI 3.1 has no words; the description has them.
        schema = {} if kind.endswith(("json", "event-stream", "*")) else {"type": "string"}
        return {"content": {kind: {"schema": schema}}}
    return {"content": {"application/json": {"schema": shown[row.reply.__name__]}}}


def _is_file(row: Operation) -> bool:
    from orchestrator.api.calls import FileAnswer

    return row.reply is FileAnswer


def _failures(row: Operation) -> Iterator[type[LorakeetError]]:
    if row.is_public:
        yield from (HostRefused, CrossSite)
    else:
        yield from _ALWAYS
    yield from row.errors
    yield InvalidParams
    if row.path_types:
        yield NotFound
    if row.body is not None or row.takes is not None:
        yield from (BodyInvalid, BodyTooLarge, MediaTypeWrong)
    elif row.method != "GET":
        yield from (BodyInvalid, BodyTooLarge)
    if row.needs_match:
        yield from (StaleVersion, VersionRequired)
    if row.method != "GET":
        yield DiskFull
    if row.takes_key:
        yield from (KeyReused, StateConflict)
    if _is_file(row):
        from contract.errors import FileUnreadable, RangeInvalid

        yield from (RangeInvalid, FileUnreadable)


def _problem(error: type[LorakeetError]) -> dict[str, Any]:
    summary = re.sub(r"\s+", " ", inspect.cleandoc(error.__doc__ or ""))
    return {"code": error.kind, "status": status_of(error), "retryable": error.retryable, "summary": summary}


def main() -> int:
    """The command. Exit code 1: `--check` found drift."""
    parser = argparse.ArgumentParser(prog=GENERATED_BY, description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; say what has drifted")
    wanted = pretty(document())
    if not parser.parse_args().check:
        FILE.write_bytes(wanted)
        return 0
    if FILE.exists() and FILE.read_bytes() == wanted:
        return 0
    sys.stderr.write(f"{FILE.name} is not what the code says\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
