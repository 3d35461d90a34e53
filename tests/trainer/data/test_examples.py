"""The loop gets the same at each position whether it came there by itself or was resumed there."""

import os
from itertools import islice
from pathlib import Path

import pytest
import torch

from contract.rules.buckets import Placed, Size
from tests.trainer.data.folders import Encoder, pictures, plan_of, subset
from tests.trainer.data.test_texts import Encoder as TextEncoder
from trainer.data.bucket_plan import BucketPlan
from trainer.data.cache import Cache
from trainer.data.caption import Captioner
from trainer.data.examples import CachedLatents, CachedTexts, Example, Examples, Framing
from trainer.data.latents import LatentKeys, fill_latents
from trainer.data.loader import Loader
from trainer.data.picture import Corner
from trainer.data.sampler import Item, Sampler
from trainer.data.subset import Subset
from trainer.data.texts import TextKeys, captions_of, fill_texts

KEYS = LatentKeys("vae", torch.float32)
TEXT_KEYS = TextKeys("text encoders", 75, None, torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("run") / "pictures")


def sampler_of(plan: BucketPlan) -> Sampler:
    repeats = [picture.repeats for picture in plan.pictures]
    return Sampler(plan.buckets, repeats, batch_size=plan.batch_size, seed=7, accumulation=3)


def run(folder: Path, first: int, count: int, *, cache: Cache | None, random_crop: bool) -> list[Example]:
    """Examples from a position on, as a new process would make them."""
    subsets = [subset(folder, flip=True, random_crop=random_crop, repeats=2)]
    plan = plan_of(*subsets)
    latents = None if cache is None else CachedLatents(cache, KEYS)
    if cache is not None:
        fill_latents(cache, KEYS, plan, subsets, Encoder())
    made = Examples(plan, subsets, seed=7, latents=latents)
    with Loader(sampler_of(plan).since(first), made.load, ahead=3) as loader:
        return list(islice(loader, count))


def same(one: Example, other: Example) -> bool:
    tensors = ((one.latents, other.latents), (one.pixels, other.pixels))
    return one[:4] == other[:4] and all(
        a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in tensors
    )


@pytest.mark.parametrize("is_cached", [True, False], ids=["cached", "pixels"])
@pytest.mark.parametrize("random_crop", [True, False], ids=["random crop", "centre"])
def test_a_resumed_run_gets_what_it_would_have_got(
    is_cached: bool, random_crop: bool, folder: Path, tmp_path: Path
) -> None:
    cache = Cache(os.fspath(tmp_path)) if is_cached else None
    whole = run(folder, 0, 18, cache=cache, random_crop=random_crop)
    assert len({example.batch.epoch for example in whole}) >= 2
    for first in (1, 5, 11):
        resumed = run(folder, first, 3, cache=cache, random_crop=random_crop)
        assert all(same(*pair) for pair in zip(resumed, whole[first : first + 3], strict=True))
    assert not same(whole[0], whole[1])


def test_cached_latents_are_those_of_the_pixels(folder: Path, tmp_path: Path) -> None:
    cached = run(folder, 0, 6, cache=Cache(os.fspath(tmp_path)), random_crop=False)
    loaded = run(folder, 0, 6, cache=None, random_crop=False)
    for one, other in zip(cached, loaded, strict=True):
        assert one.pixels is None and other.latents is None
        assert one.latents is not None and other.pixels is not None
        means = torch.nn.functional.avg_pool2d(other.pixels, 8)
        torch.testing.assert_close(one.latents[:, :3], means)
        assert one[:4] == other[:4]


def test_pictures_that_are_cropped_by_chance_are_loaded_as_pixels_even_with_a_cache(
    folder: Path, tmp_path: Path
) -> None:
    (example,) = run(folder, 0, 1, cache=Cache(os.fspath(tmp_path)), random_crop=True)
    assert example.latents is None and example.pixels is not None


def test_flips_crops_and_captions_differ_from_turn_to_turn(folder: Path) -> None:
    subsets = [subset(folder, flip=True, random_crop=True)]
    plan = plan_of(*subsets)
    made = Examples(plan, subsets, seed=1)
    item = Item([os.path.basename(each.path) for each in plan.pictures].index("china.png"), 0)
    framings = [made.framing(epoch, item) for epoch in range(40)]
    assert {framing.flip for framing in framings} == {True, False}
    corners = {framing.corner for framing in framings}
    assert len(corners) > 10
    bucket, resized = plan.placed[item.picture]
    assert all(0 <= corner.left <= resized.width - bucket.width for corner in corners)
    assert len({made.caption(epoch, item) for epoch in range(40)}) > 10
    assert made.framing(0, item) != made.framing(0, Item(item.picture, 1))


def test_a_repeated_picture_has_a_caption_of_its_own_in_every_turn(folder: Path) -> None:
    subsets = [subset(folder, repeats=5)]
    made = Examples(plan_of(*subsets), subsets, seed=1, caption_variants=10)
    turns = [made.caption(epoch, Item(0, repeat)) for epoch in range(2) for repeat in range(5)]
    assert len(set(turns)) >= 7


def test_without_flip_and_crop_every_turn_is_the_middle(folder: Path) -> None:
    subsets = [subset(folder)]
    made = Examples(plan_of(*subsets), subsets, seed=1)
    assert len({made.framing(epoch, Item(0, 0)) for epoch in range(20)}) == 1


def test_sdxl_is_told_the_sizes_of_the_file_the_crop_and_the_bucket() -> None:
    placed = Placed(Size(640, 512), Size(700, 520))
    original = Size(1400, 1040)
    sizes = Framing(placed, Corner(10, 3), False).sizes(original)
    assert sizes == ((1040, 1400), (3, 10), (512, 640))
    flipped = Framing(placed, Corner(10, 3), True).sizes(original)
    assert flipped.crop == (3, 700 - 640 - 10)


def test_embeddings_come_with_the_captions_where_they_are_cached(folder: Path, tmp_path: Path) -> None:
    subsets: list[Subset] = [subset(folder)]
    plan = plan_of(*subsets)
    texts = Cache(os.fspath(tmp_path))
    fill_texts(texts, TEXT_KEYS, captions_of(plan, subsets, Captioner(7, 2), 3), TextEncoder(), batch_size=4)
    made = Examples(plan, subsets, seed=7, texts=CachedTexts(texts, TEXT_KEYS), caption_variants=2)
    made_of = sampler_of(plan)
    for batch in islice(made_of.since(0), 3 * made_of.batches_per_epoch):
        example = made.load(batch)
        assert example.conditions is not None
        assert example.conditions["hidden"].shape == (len(batch.items), 7, 3)
        assert example.conditions["pooled"][:, 0].tolist() == [len(text) for text in example.captions]
