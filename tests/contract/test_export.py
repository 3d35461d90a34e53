"""The documents: up to date, complete, and consistent with what the code does."""

import hashlib
import json
from pathlib import Path

import pytest

from contract import SUPPORTED_LEVELS
from contract.errors import leaves
from contract.export import ROOT, SCHEMA, documents, drift, exported_types, openrpc, pretty, write
from contract.fields import arms, describe
from contract.methods.registry import CAPABILITIES, METHODS
from contract.notifications import NOTIFICATIONS
from contract.reference import SETTINGS

REFERENCE = ROOT / "docs" / "reference"


def test_what_is_committed_is_what_the_code_says() -> None:
    assert list(drift()) == []


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path)
    first = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == first
    assert list(drift(tmp_path)) == []


def test_drift_is_seen_in_both_directions(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / SCHEMA / "types" / "Gone.json").write_text("{}", encoding="utf-8")
    (tmp_path / SCHEMA / "openrpc.json").write_text("{}", encoding="utf-8")
    (tmp_path / "docs/reference/errors.md").unlink()
    assert sorted(drift(tmp_path)) == [
        "contract/schema/openrpc.json is not what the code says",
        "contract/schema/types/Gone.json is no longer generated",
        "docs/reference/errors.md is not what the code says",
    ]


def test_the_hashes_are_those_of_the_files() -> None:
    listed = json.loads((ROOT / SCHEMA / "sha256.json").read_text(encoding="utf-8"))["sha256"]
    assert listed == {
        path.relative_to(SCHEMA).as_posix(): hashlib.sha256(data).hexdigest()
        for path, data in documents().items()
        if path.is_relative_to(SCHEMA) and path.name != "sha256.json"
    }


def test_documents_are_sorted_json_that_ends_with_a_newline() -> None:
    for path, data in documents().items():
        if path.suffix == ".json":
            assert data == pretty(json.loads(data))
            assert data.endswith(b"}\n")


def test_every_method_and_every_version_is_in_the_openrpc_document() -> None:
    methods = {method["name"]: method for method in openrpc()["methods"]}
    assert methods.keys() == METHODS.keys()
    for name, method in METHODS.items():
        assert list(methods[name]["x-payloads"]) == [str(version) for version in method.payload.versions]
        assert ("result" in methods[name]) == (method.kind != "notification")


def test_every_reference_in_the_openrpc_document_leads_somewhere() -> None:
    text = json.dumps(document := openrpc())
    names = document["components"]["schemas"].keys()
    referred = {piece.split('"')[0] for piece in text.split("#/components/schemas/")[1:]}
    assert referred <= names
    assert {struct.__name__ for struct in exported_types()} <= names


def test_errors_capabilities_levels_and_notifications_are_in_the_openrpc_document() -> None:
    document = openrpc()
    assert [(each["code"], each["kind"]) for each in document["x-errors"]] == [
        (leaf.code, leaf.kind) for leaf in leaves()
    ]
    assert document["x-capabilities"] == CAPABILITIES
    assert document["x-levels"] == list(SUPPORTED_LEVELS)
    assert document["x-notifications"].keys() == NOTIFICATIONS.keys()


def test_patterns_are_those_of_json_schema_and_not_of_python() -> None:
    text = pretty(openrpc()).decode()
    assert '"^[A-Za-z0-9_-]{1,64}$"' in text
    assert "\\Z" not in text


def test_a_method_lists_an_error_once() -> None:
    for method in openrpc()["methods"]:
        listed = [(each["code"], each["message"]) for each in method["errors"]]
        assert sorted(set(listed)) == sorted(listed), method["name"]


def test_a_method_lists_no_error_that_only_hosts_make() -> None:
    for method in openrpc()["methods"]:
        kinds = {each["message"] for each in method["errors"]}
        assert not kinds & {"kernel_died", "kernel_unavailable", "kernel_timeout"}, method["name"]


@pytest.mark.parametrize("name", METHODS)
def test_the_reference_has_every_method(name: str) -> None:
    assert f"| `{name}` |" in (REFERENCE / "methods.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NOTIFICATIONS)
def test_the_reference_has_every_notification(name: str) -> None:
    assert f"| `{name}` |" in (REFERENCE / "methods.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", [leaf.kind for leaf in leaves()])
def test_the_reference_has_every_error(kind: str) -> None:
    assert f"| `{kind}` |" in (REFERENCE / "errors.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "field", "text"),
    [
        (name, spec.name, spec.text)
        for name, settings in SETTINGS.items()
        for struct in arms(settings)
        for spec in describe(struct)
    ],
)
def test_the_reference_has_every_setting_and_its_help(page: str, field: str, text: str) -> None:
    lines = (REFERENCE / f"{page}-settings.md").read_text(encoding="utf-8").splitlines()
    assert any(line.startswith(f"| `{field}` |") and line.endswith(f"| {text} |") for line in lines)


def test_a_union_has_a_section_for_each_of_its_structs_and_for_those_inside() -> None:
    lines = (REFERENCE / "merge-settings.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("## ")] == [
        "## `type`: `loras`",
        "## `type`: `checkpoints`",
        "## `type`: `bake`",
        "## `type`: `extract`",
        "## `type`: `recipe`",
        "## `WeightedLora`",
        "## `WeightedModel`",
        "## `Components`",
        "## `WeightsFile`",
        "## `RecipeStep`",
    ]
