"""Names of merge methods, what is not offered, and how many models each takes."""

from pathlib import Path

import pytest

from contract.rules.merge_methods import LEFT_OUT, MERGE_METHODS, SHORT_NAMES, count_problem, method_problem

#: The modes of the seed system that have no published definition.
_UNDEFINED = ("ORTHO", "SPRSE", "NORM", "CHAN", "FREQ", "SWAP", "CLIPXOR", "XDARE", "FWM", "NoIn", "RM")
#: Its others, and what they are called here.
_DEFINED = {
    "WS": "weighted_sum", "SIG": "sigmoid", "GEO": "geometric", "MAX": "max", "AD": "add_difference",
    "sAD": "smooth_add", "MD": "multiply_difference", "SIM": "similarity_add", "TD": "train_difference",
    "TRS": "triple_sum", "TS": "tensor_sum", "ST": "sum_twice", "DARE": "dare",
}  # fmt: skip


@pytest.mark.parametrize("mode", _UNDEFINED)
def test_a_mode_without_a_published_definition_is_refused_by_name(mode: str) -> None:
    for written in (mode, mode.lower(), mode.upper()):
        problem = method_problem(written)
        assert problem is not None and "no published definition" in problem and written in problem


def test_every_mode_of_the_seed_system_is_offered_or_left_out() -> None:
    assert {mode.lower() for mode in _UNDEFINED} == LEFT_OUT
    assert set(_DEFINED.values()) <= MERGE_METHODS.keys()
    assert not LEFT_OUT & (MERGE_METHODS.keys() | SHORT_NAMES.keys())


@pytest.mark.parametrize(("mode", "name"), _DEFINED.items())
def test_a_short_name_is_answered_with_the_one_that_is_meant(mode: str, name: str) -> None:
    if mode.lower() == name:
        assert method_problem(name) is None
    else:
        assert method_problem(mode) == f"is written `{name}`"


def test_what_nobody_knows_is_answered_with_all_there_are() -> None:
    problem = method_problem("nothing")
    assert problem is not None and all(name in problem for name in MERGE_METHODS)


@pytest.mark.parametrize("name", MERGE_METHODS)
def test_every_method_says_how_many_models_it_takes(name: str) -> None:
    method = MERGE_METHODS[name]
    assert count_problem(method, method.least) is None
    if method.least > 1:
        assert str(method.least) in (count_problem(method, method.least - 1) or "")
    assert (count_problem(method, method.least + 7) is None) is (method.most is None)


def test_the_page_for_people_has_every_method_as_it_is() -> None:
    page = (Path(__file__).parents[3] / "docs" / "surgery.md").read_text(encoding="utf-8")
    for method in MERGE_METHODS.values():
        count = f"{method.least} or more" if method.most is None else str(method.least)
        reads = ", ".join(f"`{each}`" for each in method.reads) or "–"
        assert f"| `{method.name}` | {count} | {reads} |" in page
    assert all(f"`{mode}`" in page for mode in LEFT_OUT)
