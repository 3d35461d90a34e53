"""Writes the contract as documents for other languages: OpenRPC, one JSON Schema a type, their hashes.

`python -m contract.export` writes them, `--check` only says what has drifted. Everything generated lies in
`contract/schema/` and `docs/reference/`; the frozen levels in `contract/schema/levels/` are never rewritten.
"""

import argparse
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from contract import LEVEL, SUPPORTED_LEVELS
from contract.errors import LorakeetError, WireError, leaves
from contract.methods.job import ManifestItem
from contract.methods.registry import ANY_REQUEST, CAPABILITIES, METHODS, Method
from contract.notifications import NOTIFICATIONS
from contract.reference import pages

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = Path("contract/schema")
GENERATED_BY = "python -m contract.export"
_REF = "#/components/schemas/{name}"


def openrpc() -> dict[str, Any]:
    """The whole contract as one OpenRPC 1.3 document; what OpenRPC has no words for stands under `x-`."""
    types = exported_types()
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    refs = {each.__name__: schema for each, schema in zip(types, schemas, strict=True)}
    document = {
        "openrpc": "1.3.2",
        "info": {
            "title": "Lorakeet kernel",
            "version": str(LEVEL),
            "description": "JSON-RPC 2.0, one object a line, over the kernel's stdin and stdout.",
            "x-generated-by": GENERATED_BY,
        },
        "methods": [_method(each, components) for each in METHODS.values()],
        "components": {"schemas": components},
        "x-levels": list(SUPPORTED_LEVELS),
        "x-capabilities": dict(CAPABILITIES),
        "x-notifications": {
            name: {"lossy": lossy, "params": refs[struct.__name__]}
            for name, (struct, lossy) in NOTIFICATIONS.items()
        },
        "x-errors": [_error(each) for each in leaves()],
    }
    whole: dict[str, Any] = portable(document)
    return whole


def exported_types() -> list[type[msgspec.Struct]]:
    """Every Struct that crosses the wire at its top, each once."""
    found: dict[str, type[msgspec.Struct]] = {}
    for method in METHODS.values():
        for struct in (*method.payload.structs.values(), method.result, method.types.item):
            if struct is not None:
                found[struct.__name__] = struct
    for struct, _ in NOTIFICATIONS.values():
        found[struct.__name__] = struct
    return [*found.values(), WireError, ManifestItem]


def documents() -> dict[Path, bytes]:
    """Every generated file, by its path from the root of the project."""
    files = {SCHEMA / "openrpc.json": pretty(openrpc())}
    for struct in exported_types():
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | msgspec.json.schema(struct)
        files[SCHEMA / "types" / f"{struct.__name__}.json"] = pretty(portable(schema))
    hashes = {
        path.relative_to(SCHEMA).as_posix(): hashlib.sha256(data).hexdigest() for path, data in files.items()
    }
    files[SCHEMA / "sha256.json"] = pretty({"generated_by": GENERATED_BY, "sha256": hashes})
    return files | {Path("docs/reference") / name: text.encode() for name, text in pages().items()}


def pretty(value: Any) -> bytes:
    """JSON with sorted keys and a final newline, the same bytes wherever it is made."""
    ordered = msgspec.json.Encoder(order="sorted").encode(value)
    return msgspec.json.format(ordered, indent=2) + b"\n"


def drift(root: Path = ROOT) -> Iterator[str]:
    """What is committed under `root` and is not what the code says, or the other way round."""
    wanted = documents()
    for path, data in wanted.items():
        here = root / path
        if not here.is_file() or here.read_bytes() != data:
            yield f"{path.as_posix()} is not what the code says"
    for folder in (SCHEMA / "types", Path("docs/reference")):
        for stray in sorted((root / folder).glob("*")):
            if stray.relative_to(root) not in wanted:
                yield f"{stray.relative_to(root).as_posix()} is no longer generated"


def write(root: Path = ROOT) -> None:
    """Bring everything generated under `root` up to date."""
    for path, data in documents().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)


def portable(value: Any) -> Any:
    """A JSON Schema without what only Python means: the indentation of docstrings, which it strips from 3.13
    on, `\\Z` at the end of a pattern, which is `$` in ECMA-262 and so in JSON Schema, and tuples."""
    if isinstance(value, dict):
        return {key: _PORTABLE.get((key, type(item)), portable)(item) for key, item in value.items()}
    return [portable(item) for item in value] if isinstance(value, (list, tuple)) else value


_PORTABLE: dict[tuple[str, type], Callable[[Any], Any]] = {
    ("description", str): inspect.cleandoc,
    ("pattern", str): lambda pattern: re.sub(r"\\Z$", "$", pattern),
}


def _method(method: Method, components: dict[str, Any]) -> dict[str, Any]:
    name = method.params.__name__
    required = components[name].get("required", [])
    document: dict[str, Any] = {
        "name": method.name,
        "summary": method.summary,
        "description": method.params.__doc__ or "",
        "paramStructure": "by-name",
        "params": [
            {"name": field, "required": field in required, "schema": schema}
            for field, schema in components[name]["properties"].items()
        ],
        "errors": [
            {"code": each.code, "message": each.kind}
            for each in dict.fromkeys(
                leaf for family in (*ANY_REQUEST, *method.errors) for leaf in leaves(family)
            )
            if not each.by_host
        ],
        "x-kind": method.kind,
        "x-idempotent": method.idempotent,
        "x-resumable": method.resumable,
        "x-payloads": {
            str(version): _ref(struct.__name__) for version, struct in sorted(method.payload.structs.items())
        },
    }
    if method.result is not None:
        document["result"] = {"name": method.result.__name__, "schema": _ref(method.result.__name__)}
    if (item := method.types.item) is not None:
        document["x-partial-item"] = _ref(item.__name__)
    return document


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(name=name)}


def _error(error: type[LorakeetError]) -> dict[str, Any]:
    return {
        "code": error.code,
        "kind": error.kind,
        "retryable": error.retryable,
        "by_host": error.by_host,
        "summary": inspect.cleandoc(error.__doc__ or ""),
    }


def main() -> int:
    """The command. Exit code 1: `--check` found drift."""
    parser = argparse.ArgumentParser(prog=GENERATED_BY, description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; say what has drifted")
    if not parser.parse_args().check:
        write()
        return 0
    drifted = list(drift())
    sys.stderr.writelines(f"{line}\n" for line in drifted)
    return 1 if drifted else 0


if __name__ == "__main__":
    raise SystemExit(main())
