"""Captions of 75, 150 and 225 tokens: what rows they become, and how the encoded rows are put together."""

from collections.abc import Mapping

import pytest
import torch

from trainer.families import FAMILIES, ModelFiles
from trainer.families.base import MaxTokens
from trainer.families.text import chunked, joined
from trainer.families.tokenizer import Tokenizer
from trainer.fixtures import Fixture

START, LAST = 512, 513


class Known:
    """As much of CLIP's tokenizer as is needed for the numbers of its ends."""

    def convert_tokens_to_ids(self, token: str) -> int:
        return {"<|startoftext|>": START, "<|endoftext|>": LAST, "!": 0}[token]


CLIP_L = Tokenizer(Known(), "<|endoftext|>")
BIG_G = Tokenizer(Known(), "!")


def test_a_short_text_has_one_end_and_is_filled_up() -> None:
    assert chunked([1, 2], CLIP_L, 75) == [[START, 1, 2, *[LAST] * 74]]
    assert chunked([1, 2], BIG_G, 75) == [[START, 1, 2, LAST, *[0] * 73]]


def test_what_is_too_long_is_cut_off_before_the_end() -> None:
    text = list(range(1, 401))
    for tokenizer in (CLIP_L, BIG_G):
        assert chunked(text, tokenizer, 75) == [[START, *text[:75], LAST]]
        assert chunked(text, tokenizer, 225) == [[START, *text[at : at + 75], LAST] for at in (0, 75, 150)]


def test_each_row_of_clip_l_has_a_start_and_an_end() -> None:
    text = list(range(1, 101))
    assert chunked(text, CLIP_L, 225) == [
        [START, *text[:75], LAST],
        [START, *text[75:], *[LAST] * 51],
        [START, *[LAST] * 76],
    ]


def test_a_row_of_big_g_ends_where_its_text_does_and_an_empty_one_at_once() -> None:
    """As sd-scripts: padding is `!` there, and pooling looks for the end of each row."""
    text = list(range(1, 101))
    assert chunked(text, BIG_G, 225) == [
        [START, *text[:75], LAST],
        [START, *text[75:], LAST, *[0] * 50],
        [START, LAST, *[0] * 75],
    ]


def test_a_text_that_fills_its_row_keeps_its_end_in_the_next() -> None:
    text = list(range(1, 76))
    assert chunked(text, BIG_G, 150) == [[START, *text, LAST], [START, LAST, *[0] * 75]]


@pytest.mark.parametrize(("max_tokens", "chunks"), [(75, 1), (150, 2), (225, 3)])
def test_encoded_rows_keep_the_first_start_and_the_last_end(max_tokens: MaxTokens, chunks: int) -> None:
    """Numbers are caption · 1000 + row · 100 + position."""
    rows = torch.stack(
        [c * 1000 + r * 100 + torch.arange(77.0)[:, None] for c in range(2) for r in range(chunks)]
    )
    found = joined(rows, max_tokens)
    assert found.shape == (2, max_tokens + 2, 1)
    for caption in range(2):
        inner = [r * 100 + at for r in range(chunks) for at in range(1, 76)]
        wanted = [0, *inner, (chunks - 1) * 100 + 76]
        assert found[caption, :, 0].tolist() == [caption * 1000 + each for each in wanted]


@torch.no_grad()
def test_a_long_caption_is_encoded_row_by_row_and_pooled_by_its_first(
    models: Mapping[str, Fixture], family: str
) -> None:
    """A token is a letter in the small models: 80 letters are 75 and 5."""
    files = ModelFiles(model=str(models[family].file))
    model = FAMILIES[family].load(files, torch.float32, parts=frozenset({"text"}))
    captions = ["a" * 75 + "bcdef", "g"]
    long = model.encode_text(captions, max_tokens=150)
    first = model.encode_text(captions, max_tokens=75)
    assert long["hidden"].shape[1] == 152
    torch.testing.assert_close(long["hidden"][:, :76], first["hidden"][:, :76])
    assert (long["hidden"][0, 76:81] - long["hidden"][1, 76:81]).abs().max() > 0.1
    if family == "sdxl":
        torch.testing.assert_close(long["pooled"], first["pooled"])
        assert long["pooled"].shape == (2, 40)
    # The second row alone, as the caption that it would be.
    rest = model.encode_text(["bcdef", ""], max_tokens=75)["hidden"][0, 1:6]
    torch.testing.assert_close(long["hidden"][0, 76:81], rest)
