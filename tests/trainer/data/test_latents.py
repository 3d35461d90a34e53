"""Latents are encoded once, whatever ends the filling, and found by what they were made of."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from contract.errors import ImageTruncated, ManifestInvalid, WeightsNotFinite
from contract.rules.buckets import Placed, Size
from tests.trainer.data.folders import PHOTOS, Encoder, pictures, plan_of, subset
from trainer.data.cache import Cache
from trainer.data.collection import Picture
from trainer.data.latents import LATENTS, LatentKeys, fill_latents
from trainer.data.picture import Corner, centre, cut, decode

KEYS = LatentKeys("vae", torch.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pictures(tmp_path / "pictures")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(os.fspath(tmp_path / "cache"))


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_every_picture_and_its_mirror_image_are_cached(batch_size: int, folder: Path, cache: Cache) -> None:
    subsets = [subset(folder, flip=True)]
    plan = plan_of(*subsets)
    encode = Encoder()
    seen: list[tuple[int, int]] = []
    skipped = fill_latents(
        cache,
        KEYS,
        plan,
        subsets,
        encode,
        batch_size=batch_size,
        step=lambda done, total: seen.append((done, total)),
    )
    assert not skipped
    assert len(cache) == encode.pictures == 2 * len(PHOTOS)
    assert max(shape[0] for shape in encode.shapes) == batch_size
    assert seen == [(done, len(PHOTOS)) for done in range(1, len(PHOTOS) + 1)]
    for picture, placed in zip(plan.pictures, plan.placed, strict=True):
        upright, flipped = (
            cache.read(KEYS.of(picture, placed, centre(placed), flip=flip))[LATENTS] for flip in (False, True)
        )
        assert upright.shape == (4, placed.bucket.height // 8, placed.bucket.width // 8)
        torch.testing.assert_close(flipped[:3], upright[:3].flip(-1))
        pixels = cut(decode(picture.path), placed, centre(placed))
        assert upright[:3].mean().item() == pytest.approx(pixels.mean() / 127.5 - 1, abs=1e-5)


def test_what_is_there_is_not_encoded_again_by_any_run(folder: Path, cache: Cache) -> None:
    first = [subset(folder)]
    fill_latents(cache, KEYS, plan_of(*first), first, Encoder())
    again = Encoder()
    other = Cache(cache.folder)
    asked: list[int] = []
    fill_latents(other, KEYS, plan_of(*first), first, again, step=lambda done, total: asked.append(total))
    assert again.pictures == 0 and not asked
    flipping = [subset(folder, flip=True), subset(folder)]
    fill_latents(other, KEYS, plan_of(*flipping), flipping, again)
    assert again.pictures == len(PHOTOS)


def test_latents_do_not_depend_on_the_batch_they_were_encoded_in(folder: Path, tmp_path: Path) -> None:
    subsets = [subset(folder, flip=True)]
    plan = plan_of(*subsets)
    caches = [Cache(os.fspath(tmp_path / name)) for name in ("one", "three")]
    for each, batch_size in zip(caches, (1, 3), strict=True):
        fill_latents(each, KEYS, plan, subsets, Encoder(), batch_size=batch_size)
    for key in caches[0]._where:
        assert torch.equal(caches[0].read(key)[LATENTS], caches[1].read(key)[LATENTS])


def test_a_run_that_ends_early_goes_on_where_it_was(folder: Path, cache: Cache) -> None:
    subsets = [subset(folder)]

    def cancel(done: int, total: int) -> None:
        if done == 4:
            raise RuntimeError("canceled")

    with pytest.raises(RuntimeError, match="canceled"):
        fill_latents(cache, KEYS, plan_of(*subsets), subsets, Encoder(), step=cancel)
    rest = Encoder()
    fill_latents(Cache(cache.folder), KEYS, plan_of(*subsets), subsets, rest)
    assert rest.pictures == len(PHOTOS) - 4


def test_a_lost_shard_is_encoded_again(folder: Path, cache: Cache) -> None:
    subsets = [subset(folder)]
    fill_latents(cache, KEYS, plan_of(*subsets), subsets, Encoder())
    for shard in Path(cache.folder).glob("*.safetensors"):
        shard.write_bytes(shard.read_bytes()[:-1])
    encode = Encoder()
    again = Cache(cache.folder)
    fill_latents(again, KEYS, plan_of(*subsets), subsets, encode)
    assert encode.pictures == len(PHOTOS) == len(again)


def test_a_picture_that_cannot_be_decoded_is_refused_or_skipped_by_name(folder: Path, cache: Cache) -> None:
    path = folder / "coffee.png"
    path.write_bytes(path.read_bytes()[:-5000])
    subsets = [subset(folder)]
    plan = plan_of(*subsets)
    with pytest.raises(ImageTruncated, match=r"coffee\.png"):
        fill_latents(cache, KEYS, plan, subsets, Encoder())
    skipped = fill_latents(cache, KEYS, plan, subsets, Encoder(), bad="skip", batch_size=4)
    assert [each.path for each in skipped] == [os.fspath(path)]
    assert len(cache) == len(PHOTOS) - 1


def test_a_picture_that_changed_since_it_was_listed_never_gets_into_the_cache(
    folder: Path, cache: Cache
) -> None:
    subsets = [subset(folder)]
    plan = plan_of(*subsets)
    shutil.copyfile(folder / "china.png", folder / "coffee.png")
    with pytest.raises(ManifestInvalid, match=r"coffee\.png"):
        fill_latents(cache, KEYS, plan, subsets, Encoder())
    skipped = fill_latents(cache, KEYS, plan, subsets, Encoder(), bad="skip")
    assert [Path(each.path).name for each in skipped] == ["coffee.png"]


def test_subsets_that_are_cropped_by_chance_are_left_alone(folder: Path, cache: Cache) -> None:
    subsets = [subset(folder, random_crop=True)]
    encode = Encoder()
    fill_latents(cache, KEYS, plan_of(*subsets), subsets, encode)
    assert encode.pictures == 0 == len(cache)


def test_latents_that_are_no_numbers_are_refused_with_the_picture(folder: Path, cache: Cache) -> None:
    subsets = [subset(folder)]

    def broken(pixels: torch.Tensor, seeds: object) -> torch.Tensor:
        return torch.full((len(pixels), 4, 2, 2), torch.nan)

    with pytest.raises(WeightsNotFinite, match=r"rocket\.png"):
        fill_latents(cache, KEYS, plan_of(*subsets), subsets, broken)
    assert len(cache) == 0


def test_latents_are_kept_in_the_type_that_was_asked_for(folder: Path, cache: Cache) -> None:
    subsets = [subset(folder)]
    half = LatentKeys("vae", torch.float16)
    fill_latents(cache, half, plan_of(*subsets), subsets, Encoder())
    assert cache.read(next(iter(cache._where)))[LATENTS].dtype == torch.float16


def test_a_key_tells_apart_everything_that_latents_depend_on() -> None:
    picture = Picture("a.png", "a" * 64, Size(100, 100), 0, 1, "")
    placed = Placed(Size(64, 64), Size(64, 80))
    base = KEYS.of(picture, placed, Corner(0, 8), flip=False)
    moved = Picture("b/c.png", "a" * 64, Size(100, 100), 3, 9, "other")
    assert KEYS.of(moved, placed, Corner(0, 8), flip=False) == base
    others = {
        KEYS.of(picture, placed, Corner(0, 8), flip=True),
        KEYS.of(picture, placed, Corner(0, 0), flip=False),
        KEYS.of(picture, Placed(Size(64, 64), Size(64, 64)), Corner(0, 8), flip=False),
        KEYS.of(picture, Placed(Size(64, 72), Size(64, 80)), Corner(0, 8), flip=False),
        LatentKeys("other", torch.float32).of(picture, placed, Corner(0, 8), flip=False),
        LatentKeys("vae", torch.bfloat16).of(picture, placed, Corner(0, 8), flip=False),
        KEYS.of(Picture("a.png", "b" * 64, Size(100, 100), 0, 1, ""), placed, Corner(0, 8), flip=False),
    }
    assert len(others | {base}) == 8
