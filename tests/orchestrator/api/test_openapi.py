"""The document: what is committed is what the code says, and every route under /api stands in it."""

import json

import httpx
import pytest
from starlette.routing import Route

from contract.errors import leaves
from orchestrator.api.openapi import FILE, document
from orchestrator.api.operations import operations
from orchestrator.api.registry import PREFIX
from orchestrator.studio import Studio

DOCUMENT = document()


def test_the_committed_document_is_todays() -> None:
    assert json.loads(FILE.read_text(encoding="utf-8")) == json.loads(json.dumps(DOCUMENT)), (
        "run: python -m orchestrator.api.openapi"
    )


@pytest.mark.anyio
async def test_every_route_stands_in_the_document(studio: Studio) -> None:
    from orchestrator.serving.app import router

    served = {
        (route.path, method)
        for route in router(studio).routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    told = {(path, method.upper()) for path, each in DOCUMENT["paths"].items() for method in each}
    assert {each for each in served if each[0].startswith("/api")} <= told
    assert told <= served


def test_names_of_operations_are_unique_and_said() -> None:
    names = [each.name for each in operations()]
    assert len(names) == len(set(names))
    assert all(each.summary.endswith(".") for each in operations())


def test_every_operation_under_the_prefix_needs_a_token() -> None:
    inside = [each for each in operations() if not (each.is_public or each.at_root)]
    assert all(each.full_path.startswith(PREFIX) for each in inside)
    for path, methods in DOCUMENT["paths"].items():
        if path.startswith(PREFIX):
            assert all("401" in each["responses"] for each in methods.values())


def test_every_kind_of_problem_is_told_with_its_status() -> None:
    assert {each["code"] for each in DOCUMENT["x-problems"]} == {leaf.kind for leaf in leaves()}


def test_every_reference_has_its_type() -> None:
    def references(value: object) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*map(references, value.values()))
        return set().union(*map(references, value)) if isinstance(value, list) else set()

    names = {each.removeprefix("#/components/schemas/") for each in references(DOCUMENT)}
    assert names <= set(DOCUMENT["components"]["schemas"])


@pytest.mark.anyio
async def test_the_studio_serves_its_document_and_a_page_for_people(client: httpx.AsyncClient) -> None:
    assert (await client.get("/openapi.json")).json() == json.loads(json.dumps(DOCUMENT))
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "<script" not in page.text
    assert "http://" not in page.text and "https://" not in page.text
    for leaf in leaves():
        assert f'id="problem-{leaf.kind}"' in page.text
