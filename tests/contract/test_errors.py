"""The tree of errors: kinds, codes, families, and the way to the wire and back."""

import re
from itertools import pairwise

import msgspec
import pytest

from contract import errors
from contract.errors import (
    ErrorData,
    InternalError,
    JobCanceled,
    LevelUnsupported,
    LorakeetError,
    ProtocolError,
    Unsupported,
    WireError,
    from_wire,
    leaves,
)
from contract.methods.control import CancelParams
from contract.validation import decode

LEAVES = list(leaves())

#: The codes of each branch of the tree.
FAMILIES: list[tuple[type[LorakeetError], range]] = [
    (errors.ProtocolError, range(-32800, -32000 + 1)),
    (errors.ContractError, range(1000, 2000)),
    (errors.PathError, range(2000, 2100)),
    (errors.ImageError, range(2100, 2200)),
    (errors.ModelError, range(2200, 2300)),
    (errors.InputError, range(2000, 3000)),
    (errors.ResourceError, range(3000, 4000)),
    (errors.RuntimeFailure, range(4000, 5000)),
    (errors.StudioError, range(5000, 6000)),
]


def _made(leaf: type[LorakeetError]) -> LorakeetError:
    """One of each, with everything that it can carry."""
    if issubclass(leaf, InternalError):
        return leaf("It broke.", trace_id="abc")
    if issubclass(leaf, Unsupported):
        return leaf("Not that one.", supported=[1, 2], where="$.params.v")
    if issubclass(leaf, JobCanceled):
        return leaf("Stopped.", partial={"tagged": 3})
    return leaf("It is so.", where="$.a[1]", hint="Do that.", details={"n": 1})


def test_every_kind_is_unique() -> None:
    kinds = [leaf.kind for leaf in LEAVES]
    assert sorted(set(kinds)) == sorted(kinds)


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_kind_is_a_slug_and_a_code_lies_in_its_family(leaf: type[LorakeetError]) -> None:
    assert re.fullmatch("[a-z][a-z_]*[a-z]", leaf.kind)
    families = [codes for family, codes in FAMILIES if issubclass(leaf, family)]
    assert families
    assert all(leaf.code in codes for codes in families)


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_code_has_one_meaning_but_for_refinements(leaf: type[LorakeetError]) -> None:
    others = [each for each in LEAVES if each.code == leaf.code and each is not leaf]
    assert all(issubclass(each, leaf) or issubclass(leaf, each) or _related(leaf, each) for each in others)


def _related(one: type[LorakeetError], other: type[LorakeetError]) -> bool:
    """Whether both refine one error that has their code itself."""
    return any("code" in vars(base) and issubclass(other, base) for base in one.__mro__ if base is not one)


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_docstring_says_when_it_is_raised(leaf: type[LorakeetError]) -> None:
    assert (leaf.__doc__ or "").startswith("Raised when ")


def test_the_drawing_shows_every_class_and_no_other() -> None:
    drawn = set(
        re.findall(r"\b[A-Z][a-z]+(?:[A-Z][a-z]+)+\b", (errors.__doc__ or "").split("`code` tells")[0])
    )
    classes = {
        name
        for name, each in vars(errors).items()
        if isinstance(each, type) and issubclass(each, LorakeetError)
    }
    words = drawn | set(re.findall(r"\b(?:Busy|Unsupported|Unauthorized)\b", errors.__doc__ or ""))
    assert words == classes - {"LorakeetError"} | {"LorakeetError"} & words


def test_the_drawing_goes_down_the_classes_in_their_order() -> None:
    drawing = (errors.__doc__ or "").split("`code` tells")[0]
    families = [errors.ProtocolError, errors.ContractError, errors.InputError, errors.ResourceError]
    places = [drawing.index(family.__name__) for family in [*families, errors.RuntimeFailure]]
    assert all(before < after for before, after in pairwise(places))


@pytest.mark.parametrize("leaf", LEAVES)
def test_an_error_survives_the_wire(leaf: type[LorakeetError]) -> None:
    error = _made(leaf)
    wire = error.to_wire()
    assert (wire.code, wire.data.kind, wire.data.retryable) == (leaf.code, leaf.kind, leaf.retryable)
    back = from_wire(wire)
    assert type(back) is leaf
    assert str(back) == back.message == error.message
    assert (back.where, back.hint, back.details) == (error.where, error.hint, error.details)
    assert back.to_wire() == wire


def test_what_only_some_errors_carry_survives_too() -> None:
    canceled = from_wire(JobCanceled("Stopped.", partial={"tagged": 3}).to_wire(job_id="j"))
    assert vars(canceled)["partial"] == {"tagged": 3}
    level = from_wire(LevelUnsupported("No.", supported=[1]).to_wire())
    assert vars(level)["supported"] == [1]
    assert vars(from_wire(InternalError("Bug.", trace_id="t1").to_wire()))["trace_id"] == "t1"


def test_the_job_travels_where_it_is_known() -> None:
    assert errors.FileMissing("Gone.").to_wire(job_id="job_1").data.job_id == "job_1"
    assert errors.FileMissing("Gone.").to_wire().data.job_id is None


@pytest.mark.parametrize(
    ("code", "family"),
    [
        (-32099, ProtocolError),
        (1999, errors.ContractError),
        (2999, errors.InputError),
        (3999, errors.ResourceError),
        (4999, errors.RuntimeFailure),
        (9999, LorakeetError),
    ],
)
def test_an_unknown_kind_becomes_its_family(code: int, family: type[LorakeetError]) -> None:
    error = from_wire(
        WireError(code=code, message="New.", data=ErrorData(kind="of_tomorrow", retryable=True))
    )
    assert type(error) is family
    assert (error.code, error.kind, error.retryable) == (code, "of_tomorrow", True)


def test_what_an_error_quotes_is_cut() -> None:
    """A refusal must not be longer than the longest message, however long what it refuses."""
    long = "x" * (8 << 20)
    with pytest.raises(errors.InvalidParams) as caught:
        decode({"mode": long, long: 1, "job_id": "a"}, CancelParams)
    assert len(msgspec.json.encode(caught.value.to_wire())) < 100_000
    assert len(msgspec.json.encode(errors.MethodNotFound(long, where=long, hint=long).to_wire())) < 100_000
