"""The vectors: what each Struct takes and refuses, through our own decoding and through the JSON Schemas."""

import importlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.errors import InvalidParams
from contract.export import ROOT, exported_types
from contract.methods.registry import METHODS
from contract.validation import decode

#: Without a stub package; what it knows of 2020-12 is all that is needed of it.
_jsonschema: Any = importlib.import_module("jsonschema")
VECTORS = Path(__file__).parent / "vectors"
TYPES = {struct.__name__: struct for struct in exported_types()}


def _read(name: str) -> dict[str, Any]:
    vectors: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return vectors


def _cases(kind: str) -> list[Any]:
    return [
        pytest.param(name, case, id=f"{name}-{index}")
        for name in sorted(path.stem for path in VECTORS.glob("*.json"))
        for index, case in enumerate(_read(name)[kind])
    ]


def _schema(name: str) -> Any:
    return json.loads((ROOT / "contract" / "schema" / "types" / f"{name}.json").read_text(encoding="utf-8"))


def _fits_schema(name: str, value: Any) -> bool:
    return bool(_jsonschema.Draft202012Validator(_schema(name)).is_valid(value))


def test_every_struct_on_the_wire_has_vectors_and_no_other() -> None:
    assert {path.stem for path in VECTORS.glob("*.json")} == TYPES.keys()


@pytest.mark.parametrize("name", TYPES)
def test_a_struct_takes_something_and_refuses_something(name: str) -> None:
    vectors = _read(name)
    assert vectors.keys() == {"accept", "reject"}
    assert vectors["accept"] and vectors["reject"]


@pytest.mark.parametrize("name", TYPES)
def test_every_field_is_tried(name: str) -> None:
    struct = TYPES[name]
    tried = {key for value in _read(name)["accept"] for key in value}
    assert {field.encode_name for field in msgspec.structs.fields(struct)} <= tried


@pytest.mark.parametrize(
    "name", [name for name, each in TYPES.items() if each.__struct_config__.forbid_unknown_fields]
)
def test_a_strict_struct_refuses_an_unknown_field(name: str) -> None:
    assert any(case["why"] == "an unknown field is refused" for case in _read(name)["reject"])


@pytest.mark.parametrize("name", TYPES)
def test_every_required_field_is_left_out_once(name: str) -> None:
    required = [field.encode_name for field in msgspec.structs.fields(TYPES[name]) if field.required]
    left_out = {case["where"] for case in _read(name)["reject"]}
    assert {f"$.{field}" for field in required} <= left_out


@pytest.mark.parametrize(("name", "value"), _cases("accept"))
def test_accepted(name: str, value: Any) -> None:
    decoded = decode(value, TYPES[name])
    assert decode(msgspec.to_builtins(decoded), TYPES[name]) == decoded


@pytest.mark.parametrize(("name", "value"), _cases("accept"))
def test_accepted_by_the_json_schema(name: str, value: Any) -> None:
    assert _fits_schema(name, value)


@pytest.mark.parametrize(("name", "case"), _cases("reject"))
def test_rejected_and_the_place_is_named(name: str, case: dict[str, Any]) -> None:
    with pytest.raises(InvalidParams) as caught:
        decode(case["value"], TYPES[name])
    assert case["where"] in [problem["where"] for problem in caught.value.details["problems"]]
    assert caught.value.where == caught.value.details["problems"][0]["where"]


@pytest.mark.parametrize(("name", "case"), _cases("reject"))
def test_rejected_by_the_json_schema_where_it_can_say_so(name: str, case: dict[str, Any]) -> None:
    assert _fits_schema(name, case["value"]) is not case.get("json_schema", True)


@pytest.mark.parametrize("name", TYPES)
def test_the_json_schema_is_one(name: str) -> None:
    _jsonschema.Draft202012Validator.check_schema(_schema(name))


def test_params_of_every_payload_version_decode_through_the_method_table() -> None:
    for method in METHODS.values():
        for version, struct in method.payload.structs.items():
            for value in _read(struct.__name__)["accept"]:
                params, seen = method.payload.decode(msgspec.json.encode(value))
                assert isinstance(params, method.params)
                assert seen == (version if len(method.payload.versions) > 1 else method.payload.version)
