"""CLIP's vocabulary and its tokens, against the published numbers and files."""

import hashlib
import json
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from trainer.families.tokenizer import (
    END,
    MERGES,
    SMALLEST,
    START,
    TOKENS,
    Tokenizer,
    from_folder,
    packaged,
    published_merges,
    vocabulary,
)
from trainer.fixtures import tokenizer as small


@pytest.fixture(scope="module")
def clip() -> Tokenizer:
    return packaged(TOKENS, END)


def test_the_vocabulary_is_the_published_one() -> None:
    """kohya-formats.md: the sizes of the published vocab.json and merges.txt."""
    merges = published_merges()
    assert len(merges) == MERGES
    text = "#version: 0.2\n" + "".join(f"{merge}\n" for merge in merges)
    assert len(text.encode()) == 524_619
    known = vocabulary(merges)
    assert len(known) == TOKENS
    assert len(json.dumps(known, ensure_ascii=False).encode()) == 961_143
    assert (known["!"], known["!</w>"], known[START], known[END]) == (0, 256, 49_406, 49_407)


def test_the_merges_are_those_of_the_source() -> None:
    text = "".join(f"{merge}\n" for merge in published_merges())
    wanted = "d308b7377a8ceaa9707a21614fe8c831b9196e197b7aeb69833359362907af02"
    assert hashlib.sha256(text.encode()).hexdigest() == wanted


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("a photo of sks dog", [320, 1125, 539, 48136, 1929]),
        ("A  PHOTO\n of a Cat ", [320, 1125, 539, 320, 2368]),
        ("", []),
    ],
)
def test_texts_have_the_published_tokens(clip: Tokenizer, text: str, tokens: list[int]) -> None:
    """dependencies.md 2.1, kohya-formats.md."""
    assert clip.tokens(text) == tokens


def test_long_texts_are_not_cut_here_and_say_nothing(
    clip: Tokenizer, capfd: pytest.CaptureFixture[str]
) -> None:
    assert clip.tokens("cat " * 400) == [2368] * 400
    assert capfd.readouterr() == ("", "")


def test_start_and_end_are_the_last_tokens_and_the_two_encoders_pad_differently(clip: Tokenizer) -> None:
    assert (clip.start, clip.end, clip.pad, len(clip)) == (49_406, 49_407, 49_407, TOKENS)
    assert packaged(TOKENS, "!").pad == 0


def test_a_small_vocabulary_has_the_first_merges_and_the_end_last() -> None:
    three = packaged(SMALLEST + 3, END)
    assert (len(three), three.end) == (SMALLEST + 3, SMALLEST + 2)
    assert [merge.replace(" ", "") for merge in published_merges()[:3]] == ["in", "th", "an"]
    assert three.tokens("in") == packaged(SMALLEST, END).tokens("in")  # the end of a word is another letter
    assert three.tokens("ink") == [512, 256 + ord("k") - 33]


def test_a_folder_that_cuts_or_fills_texts_up_does_not_here(tmp_path: Path) -> None:
    small.write_tokenizer(tmp_path)
    clip = CLIPTokenizer.from_pretrained(tmp_path)
    clip.backend_tokenizer.enable_truncation(10)
    clip.backend_tokenizer.enable_padding(length=200)
    clip.save_pretrained(tmp_path)
    assert "truncation" in (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
    assert len(from_folder(str(tmp_path), "!").tokens("a" * 100)) == 100


def test_without_merges_it_is_the_tokenizer_of_the_fixtures() -> None:
    assert vocabulary(()) == small.vocabulary()
