"""Arguments of optimizers as people paste them."""

import math

import pytest

from contract.rules.optimizer_arguments import ArgumentsInvalid, parse_arguments

WANTED = {"weight_decay": 0.01, "betas": [0.9, 0.99]}


@pytest.mark.parametrize(
    "text",
    [
        ["weight_decay=0.01", "betas=0.9,0.99"],  # optimizer_args in a TOML file of kohya
        "weight_decay=0.01 betas=0.9,0.99",
        "weight_decay=0.01, betas=(0.9, 0.99)",
        "weight_decay=0.01,betas=(0.9,0.99)",
        '"weight_decay=0.01" "betas=0.9,0.99"',  # as on a command line
        "'weight_decay=0.01' 'betas=[0.9, 0.99]'",
        "weight_decay = 0.01\nbetas = 0.9, 0.99",
        "torch.optim.adamw.AdamW(weight_decay=0.01,betas=(0.9, 0.99))",  # ss_optimizer of a LoRA
        "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.01,betas=(0.9,0.99))",
    ],
)
def test_every_way_of_writing_them_means_the_same(text: str | list[str]) -> None:
    assert parse_arguments(text) == WANTED


def test_values_are_literals_and_single_words_are_texts() -> None:
    text = "a=True b=false c=None d=-3 e=1e-30 f='two words, one comma' g=cosine h=inf i=[1, 2] j=0.5,"
    assert parse_arguments(text) == {
        "a": True,
        "b": False,
        "c": None,
        "d": -3,
        "e": 1e-30,
        "f": "two words, one comma",
        "g": "cosine",
        "h": math.inf,
        "i": [1, 2],
        "j": 0.5,
    }


@pytest.mark.parametrize("text", ["", [], "  ,  ", "torch.optim.adamw.AdamW()"])
def test_there_may_be_none(text: str | list[str]) -> None:
    assert parse_arguments(text) == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0.9", "`0.9` is no argument"),
        ("AdamW", "`AdamW` is no argument"),
        ("a=1 a=2", "`a` is given twice"),
        ("a=(1, 2", r"`\(` is never closed"),
        ("a='b", "`'` is never closed"),
        ("a=", "value of `a` cannot be read"),
        ("a=1)", "value of `a` cannot be read"),
        ("a=__import__('os').system('true')", "value of `a` cannot be read"),
        ("a={'b': 1}", "value of `a` cannot be read"),
        ("a=((1, 2), 3)", "value of `a` cannot be read"),
        ("a=" + "(" * 2_000 + ")" * 2_000, "value of `a` cannot be read"),
        ("a=" + "1" * 5_000, "at most 4096 characters"),
    ],
)
def test_what_is_no_argument_is_refused_with_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ArgumentsInvalid, match=says):
        parse_arguments(text)
