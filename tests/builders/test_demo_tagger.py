"""The demo tagger measures what it says, and the committed files are what its builder writes."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from kernel.engines.onnx_file import check, external_files
from tests.builders.demo_tagger import CHARACTER, FILES, FOLDER, GENERAL, SIZE, TAGS, build, drifted

Pixels = NDArray[np.float32]
THRESHOLDS = {GENERAL: 0.35, CHARACTER: 0.85}


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(FOLDER / FILES[0]), providers=["CPUExecutionProvider"])


def scores(session: onnxruntime.InferenceSession, *pictures: Pixels) -> NDArray[np.float32]:
    (batch,) = session.run(["output"], {"input": np.stack(pictures)})
    return np.asarray(batch, np.float32)


def fired(session: onnxruntime.InferenceSession, picture: Pixels) -> set[str]:
    (row,) = scores(session, picture)
    return {
        tag.name for tag, score in zip(TAGS, row, strict=True) if score >= THRESHOLDS.get(tag.category, 2)
    }


def plain(red: int, green: int, blue: int) -> Pixels:
    return np.full((SIZE, SIZE, 3), (blue, green, red), np.float32)


def split(axis: int, first: int, second: int) -> Pixels:
    """Grey of one level in the first half along `axis`, another in the second."""
    picture = plain(first, first, first)
    half = [slice(None)] * 3
    half[axis] = slice(SIZE // 2, None)
    picture[tuple(half)] = second
    return picture


def padded(picture: Pixels, height: int, width: int) -> Pixels:
    """The middle `height` x `width` of the picture on white, as a tagger pads."""
    white = plain(255, 255, 255)
    rows = slice((SIZE - height) // 2, (SIZE + height) // 2)
    columns = slice((SIZE - width) // 2, (SIZE + width) // 2)
    white[rows, columns] = picture[rows, columns]
    return white


def checkers(low: int, high: int) -> Pixels:
    cells = np.indices((SIZE, SIZE)).sum(0) // 8 % 2
    return np.repeat(np.where(cells == 0, low, high)[..., None], 3, axis=2).astype(np.float32)


def confetti() -> Pixels:
    """Stripes of light red, green and blue, none more than the others."""
    picture = plain(160, 160, 160)
    for channel in range(3):
        picture[channel::3, :, channel] = 255
    return picture


# A picture for each tag, and everything else that fires for it.
FIRING: dict[str, tuple[Pixels, set[str]]] = {
    "red": (plain(150, 110, 110), {"square_image"}),
    "green": (plain(110, 150, 110), {"square_image"}),
    "blue": (plain(110, 110, 150), {"square_image"}),
    "yellow": (plain(130, 130, 40), {"square_image"}),
    "greyscale": (plain(120, 120, 120), {"square_image"}),
    "white_background": (plain(255, 255, 255), {"square_image", "greyscale", "bright"}),
    "dark": (plain(50, 30, 40), {"square_image"}),
    "bright": (plain(180, 170, 180), {"square_image"}),
    "high_contrast": (checkers(20, 220), {"square_image", "greyscale"}),
    "bright_above": (split(0, 150, 90), {"square_image", "greyscale"}),
    "bright_below": (split(0, 90, 150), {"square_image", "greyscale"}),
    "bright_left": (split(1, 150, 90), {"square_image", "greyscale"}),
    "bright_right": (split(1, 90, 150), {"square_image", "greyscale"}),
    "wide_image": (padded(plain(100, 105, 105), 40, 64), set()),
    "tall_image": (padded(plain(100, 105, 105), 64, 40), set()),
    "square_image": (plain(100, 105, 110), set()),
    "^_^": (confetti(), {"square_image", "bright"}),
    "crimson_knight_(palette)": (plain(220, 60, 60), {"square_image", "red"}),
    "emerald_ranger_(palette)": (plain(60, 180, 60), {"square_image", "green"}),
    "sapphire_mage_(palette)": (plain(60, 90, 220), {"square_image", "blue"}),
    "grey_ghost": (plain(40, 40, 40), {"square_image", "greyscale", "dark"}),
}


def test_the_committed_model_is_what_the_builder_writes() -> None:
    assert drifted() == []


def test_the_builder_writes_the_same_bytes_twice(tmp_path: Path) -> None:
    build(tmp_path)
    assert drifted(tmp_path) == []
    (tmp_path / FILES[1]).write_bytes(b"")
    assert drifted(tmp_path) == [FILES[1]]


def test_the_model_has_the_interface_of_a_wd14_tagger(session: onnxruntime.InferenceSession) -> None:
    (given,), (result,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("input", "tensor(float)", ["batch", SIZE, SIZE, 3])
    assert (result.name, result.type, result.shape) == ("output", "tensor(float)", ["batch", len(TAGS)])


def test_the_csv_names_the_outputs_in_their_order() -> None:
    with (FOLDER / FILES[1]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], int(row["category"])) for row in rows] == [(tag.name, tag.category) for tag in TAGS]
    assert [row["category"] for row in rows[:4]] == ["9"] * 4


def test_the_model_is_small_and_complete_in_one_file() -> None:
    check(str(FOLDER / FILES[0]))
    assert external_files(str(FOLDER / FILES[0])) == []
    assert sum((FOLDER / name).stat().st_size for name in FILES) < 50_000


def test_there_is_a_picture_for_every_tag() -> None:
    assert set(FIRING) == {tag.name for tag in TAGS if tag.category in THRESHOLDS}


@pytest.mark.parametrize("name", FIRING)
def test_a_tag_fires_for_its_picture_and_no_tag_that_is_not_meant(
    name: str, session: onnxruntime.InferenceSession
) -> None:
    picture, others = FIRING[name]
    assert fired(session, picture) == {name} | others


@pytest.mark.parametrize("name", FIRING)
def test_no_score_is_near_a_threshold(name: str, session: onnxruntime.InferenceSession) -> None:
    (row,) = scores(session, FIRING[name][0])
    assert [tag.name for tag, score in zip(TAGS, row, strict=True) if 0.25 < score < 0.88] == []


def test_the_white_that_a_tagger_pads_with_changes_no_other_tag(
    session: onnxruntime.InferenceSession,
) -> None:
    for name in ("red", "greyscale", "dark", "bright_above", "bright_left", "crimson_knight_(palette)"):
        picture, others = FIRING[name]
        assert fired(session, padded(picture, 40, 64)) == {name, "wide_image"} | others - {"square_image"}


def test_strong_red_is_rated_sensitive_and_all_else_general(session: onnxruntime.InferenceSession) -> None:
    calm, red = scores(session, plain(100, 100, 120), plain(220, 60, 60))[:, :4]
    assert calm.argmax() == 0 and calm[0] > 0.99
    assert red.argmax() == 1 and red[1] > 0.99
    assert np.allclose(red[2:], (0.018, 0.0067), atol=0.001)


def test_a_picture_scores_the_same_alone_and_in_a_batch(session: onnxruntime.InferenceSession) -> None:
    pictures = [picture for picture, _ in FIRING.values()]
    alone = np.concatenate([scores(session, picture) for picture in pictures])
    assert np.allclose(scores(session, *pictures), alone, atol=1e-5)


TURNS: dict[str, Callable[[Pixels], Pixels]] = {
    "upside down": lambda picture: picture[::-1],
    "mirrored": lambda picture: picture[:, ::-1],
    "turned": lambda picture: picture.transpose(1, 0, 2),
}


def test_the_eight_orientations_of_a_picture_all_get_different_tags(
    session: onnxruntime.InferenceSession,
) -> None:
    picture = padded(np.maximum(split(0, 200, 60), split(1, 200, 60)), 40, 64)
    seen = set()
    for code in range(8):
        turned = picture
        for bit, turn in enumerate(TURNS.values()):
            turned = turn(turned) if code >> bit & 1 else turned
        seen.add(frozenset(fired(session, np.ascontiguousarray(turned))))
    assert len(seen) == 8
