"""Every form of picture is decoded whole and upright, cut where it should be, or refused by name."""

import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contract.errors import FileMissing, FileUnreadable, ImageTooLarge
from contract.rules.buckets import BucketRules, Placed, Size
from kernel.engines.pictures import prepare
from tests.builders.pictures import BROKEN, NASTY, ZOO, Broken, Picture, photo, write
from trainer.data.picture import MAX_PIXELS, Corner, centre, cut, decode, look

# pytest puts its own filters in front of the one that the module sets.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


@pytest.mark.parametrize("picture", ZOO + NASTY, ids=lambda picture: ascii(picture.name))
def test_every_form_of_picture_is_decoded_to_what_the_tagger_sees(picture: Picture, tmp_path: Path) -> None:
    path = os.fspath(write(tmp_path, [picture])[0])
    image = decode(path)
    assert image.size == picture.size == look(path).size
    assert image.mode == "RGB"
    # At its own size the tagger's picture is not scaled, only put on white.
    side = max(picture.size)
    seen = prepare(path, side, fast=False, max_pixels=MAX_PIXELS).pixels[..., ::-1]
    top, left = (side - image.height) // 2, (side - image.width) // 2
    np.testing.assert_array_equal(
        seen[top : top + image.height, left : left + image.width], np.asarray(image)
    )


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_broken_picture_is_refused_with_an_error_that_names_it(broken: Broken, tmp_path: Path) -> None:
    path = os.fspath(write(tmp_path, [broken])[0])
    with pytest.raises(broken.error, match=broken.name) as caught:
        decode(path)
    assert caught.value.where == path


def test_a_file_is_known_by_the_hash_of_its_bytes(tmp_path: Path) -> None:
    path = write(tmp_path, ZOO[:1])[0]
    assert look(os.fspath(path)).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        decode(os.fspath(tmp_path / "none.png"))
    with pytest.raises(FileMissing):
        decode("nul\0.png")
    with pytest.raises(FileUnreadable):
        decode(os.fspath(tmp_path))
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe.png")
        with pytest.raises(FileUnreadable):
            look(os.fspath(tmp_path / "pipe.png"))


def test_the_limit_is_known_before_anything_is_decoded(tmp_path: Path) -> None:
    path = os.fspath(write(tmp_path, ZOO[:1])[0])
    with pytest.raises(ImageTooLarge):
        look(path, max_pixels=1000)


@pytest.mark.parametrize("corner", [Corner(0, 0), Corner(10, 0), Corner(37, 0)], ids=str)
def test_a_cut_is_that_of_the_whole_picture_scaled(corner: Corner) -> None:
    image = photo("coffee")
    placed = Placed(Size(384, 256), Size(421, 256))
    whole = np.asarray(image.resize(placed.resized, Image.Resampling.LANCZOS)).astype(int)
    expected = whole[:256, corner.left : corner.left + 384]
    assert abs(cut(image, placed, corner).astype(int) - expected).max() <= 1


def test_a_flipped_cut_is_the_cut_mirrored() -> None:
    image = photo("china")
    placed = BucketRules(resolution=Size(256, 256), min_side=128, max_side=512).place(*image.size)
    corner = centre(placed)
    upright, flipped = cut(image, placed, corner), cut(image, placed, corner, flip=True)
    assert upright.shape == (placed.bucket.height, placed.bucket.width, 3)
    np.testing.assert_array_equal(flipped, upright[:, ::-1])
    assert (flipped != upright).any()


def test_a_picture_of_the_buckets_size_is_left_as_it_is() -> None:
    image = photo("astronaut")
    size = Size(*image.size)
    np.testing.assert_array_equal(cut(image, Placed(size, size), Corner(0, 0)), np.asarray(image))


def test_a_line_is_cut_without_scaling_what_is_cut_off() -> None:
    rules = BucketRules(resolution=Size(512, 512))
    image = Image.new("RGB", (1, 60_000), (10, 20, 30))
    placed = rules.place(*image.size)
    pixels = cut(image, placed, centre(placed))
    assert pixels.shape == (placed.bucket.height, placed.bucket.width, 3)
    assert (pixels == (10, 20, 30)).all()
