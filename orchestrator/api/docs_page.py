"""The API for people: one HTML page from the document, without a script and without a network."""

from collections.abc import Iterator
from html import escape
from typing import Any

from orchestrator.api.openapi import document

_METHODS = ("get", "post", "put", "patch", "delete")


def page() -> str:
    """The page."""
    return _page(document())


def _page(api: dict[str, Any]) -> str:
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8"><title>Lorakeet API</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="stylesheet" href="/plain.css"></head><body>',
            f"<h1>Lorakeet API {escape(api['info']['version'])}</h1>",
            f"<p>{_text(api['info']['description'])} "
            '<a href="/api/v1/openapi.json">The OpenAPI document</a></p>',
            *_index(api),
            *_operations(api),
            *_schemas(api),
            *_problems(api),
            "</body></html>",
        ]
    )


def _index(api: dict[str, Any]) -> Iterator[str]:
    yield "<h2>Operations</h2><ul>"
    for path, method, row in _rows(api):
        yield f'<li><a href="#{row["operationId"]}"><code>{method.upper()} {escape(path)}</code></a> '
        yield f"{_text(row['summary'])}</li>"
    yield "</ul>"


def _rows(api: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in api["paths"].items():
        for method in _METHODS:
            if method in methods:
                yield path, method, methods[method]


def _operations(api: dict[str, Any]) -> Iterator[str]:
    for path, method, row in _rows(api):
        yield f'<h3 id="{row["operationId"]}"><code>{method.upper()} {escape(path)}</code></h3>'
        yield f"<p>{_text(row['summary'])}</p>"
        if "description" in row:
            yield f"<p>{_text(row['description'])}</p>"
        yield "<dl>"
        for each in row["parameters"]:
            yield f"<dt><code>{escape(each['name'])}</code> ({each['in']})</dt>"
            yield f"<dd>{_type(each['schema'])} {_text(each.get('description', ''))}</dd>"
        for media, content in row.get("requestBody", {}).get("content", {}).items():
            yield f"<dt>body</dt><dd><code>{media}</code>: {_type(content['schema'])}</dd>"
        for status, answer in row["responses"].items():
            types = ", ".join(_type(each["schema"]) for each in answer.get("content", {}).values())
            yield f"<dt>{status}</dt><dd>{_text(answer['description'])} {types}</dd>"
        yield "</dl>"


def _schemas(api: dict[str, Any]) -> Iterator[str]:
    yield "<h2>Types</h2>"
    for name, schema in sorted(api["components"]["schemas"].items()):
        yield f'<h3 id="type-{name}">{name}</h3><p>{_text(schema.get("description", ""))}</p><dl>'
        for field, each in schema.get("properties", {}).items():
            needed = "" if field in schema.get("required", ()) else " (may be left out)"
            yield f"<dt><code>{escape(field)}</code>{needed}</dt>"
            yield f"<dd>{_type(each)} {_text(each.get('description', ''))}</dd>"
        yield "</dl>"


def _problems(api: dict[str, Any]) -> Iterator[str]:
    yield "<h2>Problems</h2><dl>"
    for each in api["x-problems"]:
        yield f'<dt id="problem-{each["code"]}"><code>{each["code"]}</code> ({each["status"]})</dt>'
        yield f"<dd>{_text(each['summary'])}</dd>"
    yield "</dl>"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#type-{name}">{name}</a>'
    if arms := schema.get("anyOf"):
        return " or ".join(map(_type, arms))
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(each))}</code>" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return escape(str(schema.get("type", "anything")))


def _text(text: str) -> str:
    """Prose with `code` in it."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))
