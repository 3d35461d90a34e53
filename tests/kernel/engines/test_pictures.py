"""Every form of picture becomes the square that a tagger reads, or a typed error; nothing else comes out."""

import errno
import os
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from contract.errors import (
    FileMissing,
    FileUnreadable,
    ImageError,
    ImageInvalid,
    ImageTooLarge,
    ImageTruncated,
    InputError,
    OutOfMemory,
)
from kernel.engines import pictures
from kernel.engines.pictures import Prepared, prepare
from tests.builders import demo_tagger
from tests.builders.pictures import BROKEN, NASTY, ZOO, Broken, Picture, photo, write

# pytest puts its own filters in front of the one that the module sets.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

MAX_PIXELS = 64_000_000
THRESHOLDS = {demo_tagger.GENERAL: 0.35, demo_tagger.CHARACTER: 0.85}


def ready(path: Path, size: int = demo_tagger.SIZE, *, fast: bool = True) -> Prepared:
    return prepare(str(path), size, fast=fast, max_pixels=MAX_PIXELS)


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    model = demo_tagger.FOLDER / "model.onnx"
    return onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])


def scores(session: onnxruntime.InferenceSession, prepared: Prepared) -> dict[str, float]:
    (batch,) = session.run(None, {"input": prepared.pixels[None].astype(np.float32)})
    return {tag.name: float(score) for tag, score in zip(demo_tagger.TAGS, batch[0], strict=True)}


def fired(scored: dict[str, float]) -> set[str]:
    tags = {tag.name: THRESHOLDS.get(tag.category, 2.0) for tag in demo_tagger.TAGS}
    return {name for name, score in scored.items() if score >= tags[name]}


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "exact"])
@pytest.mark.parametrize("picture", ZOO + NASTY, ids=lambda picture: ascii(picture.name))
def test_every_form_of_picture_gets_the_tags_and_the_size_that_people_see(
    picture: Picture, fast: bool, tmp_path: Path, session: onnxruntime.InferenceSession
) -> None:
    prepared = ready(write(tmp_path, [picture])[0], fast=fast)
    assert (prepared.width, prepared.height) == picture.size
    assert prepared.pixels.shape == (demo_tagger.SIZE, demo_tagger.SIZE, 3)
    assert prepared.pixels.dtype == np.uint8
    assert fired(scores(session, prepared)) == picture.tags


@pytest.mark.parametrize("picture", ZOO, ids=lambda picture: picture.name)
def test_no_score_of_the_zoo_is_near_a_threshold(
    picture: Picture, tmp_path: Path, session: onnxruntime.InferenceSession
) -> None:
    for name, score in scores(session, ready(write(tmp_path, [picture])[0])).items():
        assert score < 0.25 or score > 0.88, name


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "exact"])
def test_a_broken_picture_is_refused_with_an_error_that_names_it(
    broken: Broken, fast: bool, tmp_path: Path
) -> None:
    (path,) = write(tmp_path, [broken])
    with pytest.raises(broken.error) as caught:
        ready(path, fast=fast)
    assert type(caught.value) is broken.error
    assert caught.value.where == str(path)
    assert broken.name in caught.value.message


def test_a_picture_over_the_limit_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (100, 50)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"IDAT") + 6])  # a header, no pixels: any decoding would fail
    with pytest.raises(ImageTooLarge) as caught:
        prepare(str(path), 8, fast=True, max_pixels=4999)
    assert caught.value.details == {"width": 100, "height": 50, "max_pixels": 4999}
    with pytest.raises(ImageTruncated):
        prepare(str(path), 8, fast=True, max_pixels=5000)


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    for name in ("none.png", "none.png/deeper.png", "nul\0.png"):
        with pytest.raises(FileMissing):
            ready(tmp_path / name)


def test_a_folder_is_not_a_picture(tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable) as caught:
        ready(tmp_path)
    assert caught.value.where == str(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no FIFOs")
def test_a_decoder_that_is_sent_where_no_file_goes_on_does_not_blame_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    (path,) = write(tmp_path, [ZOO[0]])
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(ImageInvalid):
        ready(path)


def test_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(FileUnreadable):
        ready(tmp_path / "pipe.png")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(FileUnreadable):
        ready(path)


def test_a_picture_lies_in_the_middle_of_white_in_bgr(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 20), (10, 20, 30)).save(path)
    pixels = ready(path, 8).pixels
    assert (pixels[:2] == 255).all()
    assert (pixels[6:] == 255).all()
    assert (pixels[2:6] == (30, 20, 10)).all()


def test_the_eight_orientations_give_the_same_pixels(tmp_path: Path) -> None:
    entries = [picture for picture in ZOO if picture.name.startswith("exif_")]
    upright = ready(write(tmp_path, [ZOO[0]])[0]).pixels.astype(int)
    for path in write(tmp_path, entries):
        difference = np.abs(ready(path).pixels.astype(int) - upright)
        assert difference.mean() < 2.5, path.name  # each was compressed anew


@pytest.mark.parametrize("orientation", [1, 6, 7])
def test_a_scaled_jpeg_keeps_at_least_twice_the_size_and_looks_the_same(
    orientation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo("china").resize((2560, 1708)).save(path, exif=exif, quality=95)
    decoded: list[tuple[int, int]] = []
    load = Image.Image.load

    def watched(self: Image.Image) -> object:
        decoded.append(self.size)
        return load(self)

    exact = ready(path, 256, fast=False)
    monkeypatch.setattr(Image.Image, "load", watched)
    fast = ready(path, 256)
    assert decoded[0] == (640, 427)  # a quarter: the smallest that is no less than 512
    assert (fast.width, fast.height) == (exact.width, exact.height)
    difference = np.abs(fast.pixels.astype(int) - exact.pixels.astype(int))
    assert difference.mean() < 2


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16)).save(path)
    pixels = ready(path, 4, fast=False).pixels
    assert pixels[1, :, 0].tolist() == [0, 1, 128, 255]


def test_floats_that_are_no_numbers_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[np.nan, -np.inf, 0.5, 1.0]], np.float32)).save(path)
    assert ready(path, 4, fast=False).pixels[1, :, 0].tolist() == [128, 128, 128, 255]
    Image.fromarray(np.full((1, 4), np.nan, np.float32)).save(path)
    assert not ready(path, 4).pixels[1].any()


def test_one_thread_more_changes_no_pixel(tmp_path: Path) -> None:
    paths = write(tmp_path, ZOO)
    alone = [ready(path).pixels for path in paths]
    start = threading.Barrier(8)

    def all_of_them(_: int) -> list[bool]:
        start.wait()
        return [bool((ready(path).pixels == pixels).all()) for path, pixels in zip(paths, alone, strict=True)]

    with ThreadPoolExecutor(8) as pool:
        assert all(same for column in pool.map(all_of_them, range(8)) for same in column)


def test_a_picture_without_memory_is_one_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (8, 8)).save(path)

    def full(*args: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pictures, "_fit", full)
    with pytest.raises(OutOfMemory, match="'a.png'") as caught:
        prepare(str(path), 8, fast=True, max_pixels=64_000_000)
    assert caught.value.where == str(path)


def mutated(content: bytes, dice: random.Random) -> bytes:
    """A few bytes flipped, most of them near the start where the formats are decided; or a part missing."""
    if dice.random() < 0.2:
        return content[: dice.randrange(1, len(content))]
    damaged = bytearray(content)
    reach = len(damaged) if dice.random() < 0.4 else min(len(damaged), 400)
    for _ in range(dice.choice((1, 1, 2, 8, 40))):
        damaged[dice.randrange(reach)] = dice.randrange(256)
    return bytes(damaged)


def test_damaged_files_give_typed_errors_and_nothing_else(tmp_path: Path) -> None:
    dice = random.Random(int(os.environ.get("LORAKEET_FUZZ_SEED", "0")))
    rounds = int(os.environ.get("LORAKEET_FUZZ_ROUNDS", "3"))
    target = tmp_path / "fuzzed"
    for picture in ZOO:
        (path,) = write(tmp_path, [picture])
        content = path.read_bytes()
        for _ in range(rounds):
            target.write_bytes(mutated(content, dice))
            try:
                prepare(str(target), 32, fast=True, max_pixels=4_000_000)
            except InputError as error:
                assert isinstance(error, ImageError), error
                assert error.where == str(target)
