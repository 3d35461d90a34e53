"""The fields of the settings of `train`: each says what it is, and forms and TOML can show it."""

import msgspec
import pytest

from contract.fields import FieldSpec, describe, nested
from contract.methods.train_file import TrainFile

#: Names of parameters in the papers of optimizers, which have no other.
SYMBOLS = ("r", "d0", "d coefficient")


def _structs() -> list[type[msgspec.Struct]]:
    found: dict[type[msgspec.Struct], None] = {}
    waiting: list[type[msgspec.Struct]] = [TrainFile]
    while waiting:
        struct = waiting.pop()
        found[struct] = None
        waiting += [
            each for spec in describe(struct) for each in nested(spec.annotation) if each not in found
        ]
    return list(found)


STRUCTS = _structs()
NAMED = {f"{struct.__name__}.{spec.name}": spec for struct in STRUCTS for spec in describe(struct)}
FIELDS = [pytest.param(spec, id=name) for name, spec in NAMED.items()]
NUMBERS = [pytest.param(spec, id=name) for name, spec in NAMED.items() if spec.annotation in (int, float)]


@pytest.mark.parametrize("spec", FIELDS)
def test_a_field_has_a_title_and_a_sentence(spec: FieldSpec) -> None:
    assert spec.title in SYMBOLS or (spec.title[:1].isupper() and spec.title != spec.name)
    assert not spec.title.endswith(".")
    assert spec.text.endswith(".") and len(spec.text) <= 250


@pytest.mark.parametrize("spec", FIELDS)
def test_a_field_that_may_be_nothing_is_nothing_by_default(spec: FieldSpec) -> None:
    """So that TOML, which has no word for nothing, can say everything by leaving it out."""
    assert spec.optional == (not spec.required and spec.default is None)


@pytest.mark.parametrize("spec", NUMBERS)
def test_a_number_says_from_where_to_where_it_is_allowed(spec: FieldSpec) -> None:
    """TOML has words for infinite numbers, and JSON has none."""
    assert {"ge", "gt"} & spec.limits.keys()
    assert {"le", "lt"} & spec.limits.keys()


def test_what_most_people_need_is_little() -> None:
    basic = [
        (struct.__name__, spec.name)
        for struct in STRUCTS
        for spec in describe(struct)
        if spec.detail == "basic" and not nested(spec.annotation)
    ]
    assert len(basic) < 0.5 * len(FIELDS)
    assert {("Training", "epochs"), ("LoraNetwork", "rank"), ("AdamW", "learning_rate")} <= {*basic}


def test_only_what_nobody_else_can_know_is_required() -> None:
    required = {
        (struct.__name__, spec.name) for struct in STRUCTS for spec in describe(struct) if spec.required
    }
    assert required == {
        ("TrainFile", "model"),
        ("TrainFile", "training"),
        ("TrainModel", "base"),
        ("WeightsFile", "path"),
        ("Subset", "name"),
        ("CustomOptimizer", "import_name"),
        ("TrainTarget", "name"),
    }
