"""Captions are encoded once, and every caption that a run meets is among them."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from contract.errors import WeightsNotFinite
from tests.trainer.data.folders import pictures, plan_of, subset
from trainer.data.cache import Cache
from trainer.data.caption import Captioner
from trainer.data.texts import TextKeys, captions_of, fill_texts

KEYS = TextKeys("text encoders", 75, None, torch.float32)


class Encoder:
    """Stands in for text encoders: the lengths of the captions. It remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, captions: Sequence[str]) -> dict[str, torch.Tensor]:
        self.asked.append(list(captions))
        lengths = torch.tensor([float(len(caption)) for caption in captions])
        return {"hidden": lengths[:, None, None].expand(-1, 7, 3), "pooled": lengths[:, None]}


def test_captions_are_encoded_once_in_batches(tmp_path: Path) -> None:
    cache, encode = Cache(os.fspath(tmp_path)), Encoder()
    seen: list[tuple[int, int]] = []
    texts = ["a", "", "bcd", "a", "ef"]
    fill_texts(cache, KEYS, texts, encode, batch_size=3, step=lambda *counts: seen.append(counts))
    assert encode.asked == [["a", "", "bcd"], ["ef"]]
    assert seen == [(3, 4), (4, 4)]
    for text in texts:
        read = cache.read(KEYS.of(text))
        assert read["hidden"].shape == (7, 3) and read["pooled"].tolist() == [len(text)]
    again = Encoder()
    fill_texts(Cache(os.fspath(tmp_path)), KEYS, [*texts, "new"], again, batch_size=3)
    assert again.asked == [["new"]]


def test_keys_tell_apart_the_text_and_how_it_is_encoded() -> None:
    keys = {
        KEYS.of("a"),
        KEYS.of(""),
        KEYS._replace(model="other").of("a"),
        KEYS._replace(max_tokens=150).of("a"),
        KEYS._replace(clip_skip=2).of("a"),
        KEYS._replace(dtype=torch.float16).of("a"),
    }
    assert len(keys) == 6


def test_embeddings_that_are_no_numbers_are_refused_with_the_captions(tmp_path: Path) -> None:
    def broken(captions: Sequence[str]) -> dict[str, torch.Tensor]:
        return {"hidden": torch.full((len(captions), 2), torch.inf)}

    with pytest.raises(WeightsNotFinite) as caught:
        fill_texts(Cache(os.fspath(tmp_path)), KEYS, ["a", "b"], broken, batch_size=2)
    assert caught.value.details == {"captions": ["a", "b"]}


def test_every_caption_of_a_run_is_listed_before_it(tmp_path: Path) -> None:
    subsets = [subset(pictures(tmp_path / "a"), repeats=2)]
    plan, captioner = plan_of(*subsets), Captioner(5, 3)
    listed = captions_of(plan, subsets, captioner, epochs=4)
    met = {
        captioner.at(picture.caption, subsets[0].captions, picture.sha256, turn)
        for picture in plan.pictures
        for turn in range(8)
    }
    assert met <= set(listed)
    assert len(listed) <= 3 * len(plan.pictures) + 1
