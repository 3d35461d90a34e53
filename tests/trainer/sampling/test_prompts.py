"""Prompts in the syntax that people have files of, and errors that name the line and the flag."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract.errors import FileMissing, FileUnreadable, InvalidParams
from contract.methods.training.sampling import Sampling
from contract.validation import Problem
from trainer.sampling.prompt_file import parse_prompts, read_prompts
from trainer.sampling.prompt_line import parse_line
from trainer.sampling.prompt_options import OPTIONS, PromptOptions
from trainer.sampling.prompts import Prompt, prompts_of, rounded

Write = Callable[[str, str | bytes], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def made(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return made


FULL = "a parrot, --- 1-2 -- x --n blurry, low --w 768 --h 512 --d 42 --l 7.5 --s 30 --g 3.5 --ss k_euler_a"
PARROT = PromptOptions(
    text="a parrot, --- 1-2 -- x",
    negative="blurry, low",
    width=768,
    height=512,
    seed=42,
    guidance=7.5,
    steps=30,
    embedded=3.5,
    sampler="euler_a",
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (FULL, PARROT),
        ("  a cat  ", PromptOptions(text="a cat")),
        ("a cat --s 5 --w 64", PromptOptions(text="a cat", steps=5, width=64)),
        ("a cat --W 64 --SS ddim", PromptOptions(text="a cat", width=64, sampler="ddim")),
        ("a cat --n", PromptOptions(text="a cat", negative="")),
        ("a cat\t--d\t0", PromptOptions(text="a cat", seed=0)),
        ("semi--detached --l 1", PromptOptions(text="semi--detached", guidance=1.0)),
        ("a --n not -- this --l .5e", [("--l", "needs a number from 1 to 100, not `.5e`")]),
        ("a --w 63", [("--w", "needs a whole number from 64 to 8192, not `63`")]),
        ("a --h 512.0", [("--h", "needs a whole number from 64 to 8192, not `512.0`")]),
        ("a --w", [("--w", "needs a whole number from 64 to 8192, not ``")]),
        ("a --d -1", [("--d", "needs a whole number from 0 to 9007199254740991, not `-1`")]),
        ("a --s 0", [("--s", "needs a whole number from 1 to 1000, not `0`")]),
        ("a --l nan", [("--l", "needs a number from 1 to 100, not `nan`")]),
        ("a --ss heun", [("--ss", "needs one of ddim, dpmpp_2m, euler, euler_a, not `heun`")]),
        ("a --ar 16", [("--ar", "is no option; there are --n, --w, --h, --d, --s, --l, --g, --ss")]),
        ("a --cn x.png", [("--cn", "control images are not supported; leave the option out")]),
        ("a --w 64 --w 64", [("--w", "is given twice")]),
        ("--w 64", [("", "has no prompt before its options")]),
    ],
)
def test_a_line_is_a_prompt_or_told_what_is_wrong(line: str, expected: Any) -> None:
    if isinstance(expected, list):
        expected = [Problem("here", f"`{flag}` {message}" if flag else message) for flag, message in expected]
    assert parse_line(line, "here") == expected


def test_a_file_of_text_has_a_prompt_a_line(write: Write) -> None:
    path = write("p.txt", f"\ufeff# a comment\n\n{FULL}\r\n  # another\n a dog \n")
    assert read_prompts(path) == [PARROT, PromptOptions(text="a dog")]


def test_a_table_has_subsets_and_what_is_common_to_them(write: Write) -> None:
    text = """
        [prompt]
        width = 768
        height = 512
        scale = 7.5
        negative_prompt = "blurry, low"
        [[prompt.subset]]
        prompt = "a parrot, --- 1-2 -- x"
        seed = 42
        sample_steps = 30
        guidance_scale = 3.5
        sample_sampler = "euler_a"
        [[prompt.subset]]
        prompt = "a dog"
        width = 64
    """
    dog = PromptOptions(text="a dog", width=64, height=512, guidance=7.5, negative="blurry, low")
    assert read_prompts(write("p.toml", text)) == [PARROT, dog]
    assert read_prompts(write("q.toml", '[prompt]\nprompt = "one"')) == [PromptOptions(text="one")]


def test_a_list_has_tables_or_lines(write: Write) -> None:
    entries = [FULL, {"prompt": "a dog", "width": 64, "scale": 7}]
    assert read_prompts(write("p.JSON", json.dumps(entries))) == [
        PARROT,
        PromptOptions(text="a dog", width=64, guidance=7.0),
    ]


@pytest.mark.parametrize(
    ("name", "content", "where", "message"),
    [
        ("p.txt", "a\n\nb --w x", ":3", "`--w` needs a whole number from 64 to 8192, not `x`"),
        ("p.txt", "# nothing\n", "", "has no prompt"),
        ("p.txt", b"a\nb\n\xff", ":3", "is no text in UTF-8"),
        ("p.toml", "[prompt]\nx = =", ":2", "is no TOML"),
        ("p.toml", "a = [", ":1", "is no TOML"),
        ("p.toml", "prompt = 3", "", "needs a table `[prompt]`, or `[[prompt.subset]]`"),
        ("p.toml", "[prompt]\nsubset = [1]", ": prompt.subset", "must be tables, `[[prompt.subset]]`"),
        ("p.toml", "[prompt]\nwidth = 64", ": prompt.subset[0].prompt", "is required, a text"),
        ("p.json", '[\n"a",]', ":2", "is no JSON"),
        ("p.json", "{}", "", "needs a list of prompts"),
        ("p.json", "[3]", ": [0]", "must be a table or a text"),
        ("p.json", '["a --d x"]', ": [0]", "`--d` needs a whole number from 0 to 9007199254740991, not `x`"),
        ("p.json", '[{"prompt": "a", "width": true}]', ": [0].width", "needs a number, not `True`"),
        ("p.json", '[{"prompt": "a", "width": "64"}]', ": [0].width", "needs a number, not `64`"),
        (
            "p.json",
            '[{"prompt": "a", "negative_prompt": 3}]',
            ": [0].negative_prompt",
            "needs a text, not `3`",
        ),
        ("p.yaml", "", "", "must be a .txt, .toml or .json file"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    write: Write, name: str, content: str | bytes, where: str, message: str
) -> None:
    path = write(name, content)
    with pytest.raises(InvalidParams) as refused:
        read_prompts(path)
    assert refused.value.details["problems"] == [{"where": path + where, "message": message}]
    assert refused.value.where == path + where


def test_everything_that_is_wrong_is_told_at_once(write: Write) -> None:
    with pytest.raises(InvalidParams) as refused:
        read_prompts(write("p.txt", "a --w 1 --x\nb\nc --s 0"))
    places = [each["where"].rpartition(":")[2] for each in refused.value.details["problems"]]
    assert places == ["1", "1", "3"]
    with pytest.raises(InvalidParams) as refused:
        parse_prompts(["a", "b --w 1"], "$.here")
    assert refused.value.where == "$.here[1]"


def test_a_file_that_is_not_there_or_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        read_prompts(str(tmp_path / "p.txt"))
    (tmp_path / "q.txt").mkdir()
    with pytest.raises(FileUnreadable):
        read_prompts(str(tmp_path / "q.txt"))


def test_what_a_prompt_says_comes_before_the_settings(write: Write) -> None:
    settings = Sampling(
        prompts=["a", FULL, "b --n  --s 3"], every_steps=1, negative="bad", width=200, seed=2**53 - 2
    )
    one, two, three = prompts_of(settings, (512, 640), 64)
    assert one == Prompt(
        index=0,
        text="a",
        negative="bad",
        width=192,
        height=640,
        seed=2**53 - 2,
        steps=28,
        guidance=7.0,
        embedded=None,
        sampler="euler_a",
    )
    assert two == Prompt(
        index=1,
        text=PARROT.text,
        negative="blurry, low",
        width=768,
        height=512,
        seed=42,
        steps=30,
        guidance=7.5,
        embedded=3.5,
        sampler="euler_a",
    )
    assert (three.index, three.negative, three.steps, three.seed) == (2, "", 3, 0)
    of_file = Sampling(file=write("p.txt", "a\nb --d 9"), every_epochs=1)
    assert [each.seed for each in prompts_of(of_file, (512, 512))] == [42, 9]
    assert prompts_of(Sampling(), (512, 512)) == []


def test_sizes_are_rounded_down_and_never_to_nothing() -> None:
    assert [rounded(each, 8) for each in (7, 8, 15, 64)] == [8, 8, 8, 64]
    assert rounded(1023, 64) == 960


def test_every_option_has_a_field() -> None:
    assert {each.field for each in OPTIONS} | {"text"} == set(PromptOptions.__struct_fields__)
