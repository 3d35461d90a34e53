"""The vectors: what each table takes and refuses, through our own decoding and through its JSON Schema."""

import importlib
import json
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.errors import InvalidParams
from contract.export import portable
from contract.fields import describe, nested
from contract.methods.train_file import TrainFile
from contract.methods.training.data import TrainData
from contract.methods.training.objective import Objective
from contract.validation import decode

#: Without a stub package; what it knows of 2020-12 is all that is needed of it.
_jsonschema: Any = importlib.import_module("jsonschema")
VECTORS = Path(__file__).parent / "vectors"


def _tables() -> dict[str, Any]:
    """The type of every table, also of those inside of tables."""
    hints = {
        name: hint
        for struct in (TrainFile, TrainData, Objective)
        for name, hint in typing.get_type_hints(struct, include_extras=True).items()
    }
    return {name: hint for name, hint in hints.items() if nested(_bare(hint))}


def _bare(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


TABLES = _tables()


def _read(name: str) -> dict[str, Any]:
    vectors: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return vectors


def _cases(kind: str) -> list[Any]:
    return [
        pytest.param(name, case, id=f"{name}-{index}")
        for name in TABLES
        for index, case in enumerate(_read(name)[kind])
    ]


def _fits_schema(name: str, value: Any) -> bool:
    schema = portable(msgspec.json.schema(TABLES[name]))
    return bool(_jsonschema.Draft202012Validator(schema).is_valid(value))


def test_every_table_has_vectors_and_no_other() -> None:
    assert {path.stem for path in VECTORS.glob("*.json")} == TABLES.keys()


@pytest.mark.parametrize("name", TABLES)
def test_every_field_of_every_arm_is_tried(name: str) -> None:
    accepted = _read(name)["accept"]
    given = [item for each in accepted for item in (each if isinstance(each, list) else [each])]
    for struct in nested(_bare(TABLES[name])):
        tag = struct.__struct_config__.tag
        of_arm = [each for each in given if tag is None or each.get("type") == tag]
        assert {spec.name for spec in describe(struct)} <= {key for each in of_arm for key in each}


@pytest.mark.parametrize("name", TABLES)
def test_an_unknown_field_is_refused(name: str) -> None:
    assert any(case["why"] == "an unknown field is refused" for case in _read(name)["reject"])


@pytest.mark.parametrize(("name", "value"), _cases("accept"))
def test_accepted(name: str, value: Any) -> None:
    decoded = decode(value, TABLES[name])
    assert decode(msgspec.to_builtins(decoded), TABLES[name]) == decoded


@pytest.mark.parametrize(("name", "value"), _cases("accept"))
def test_accepted_by_the_json_schema(name: str, value: Any) -> None:
    assert _fits_schema(name, value)


@pytest.mark.parametrize(("name", "case"), _cases("reject"))
def test_rejected_and_the_place_is_named(name: str, case: dict[str, Any]) -> None:
    with pytest.raises(InvalidParams) as caught:
        decode(case["value"], TABLES[name])
    assert [problem["where"] for problem in caught.value.details["problems"]] == [case["where"]]


@pytest.mark.parametrize(("name", "case"), _cases("reject"))
def test_rejected_by_the_json_schema_where_it_can_say_so(name: str, case: dict[str, Any]) -> None:
    assert _fits_schema(name, case["value"]) is not case.get("json_schema", True)
