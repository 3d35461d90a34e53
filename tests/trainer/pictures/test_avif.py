"""An AVIF counts as large as the frame in it is, whatever its container says."""

import io
from pathlib import Path

import pytest
from PIL import Image

from contract.errors import ImageInvalid, ImageTooLarge
from trainer.data.picture import decode
from trainer.pictures.avif import Frame, largest_frame


def saved(size: tuple[int, int], mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, "teal").save(file, "AVIF", speed=10, **options)
    return file.getvalue()


def lying(content: bytes, width: int, height: int) -> bytes:
    """The same file with another size in every `ispe`."""
    said = bytearray(content)
    at = said.find(b"ispe")
    while at >= 0:
        said[at + 8 : at + 16] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
        at = said.find(b"ispe", at + 4)
    return bytes(said)


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: Image.Image) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.AvifImagePlugin.AvifImageFile.load", load)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("size", [(1, 1), (301, 200), (1030, 7)])
def test_the_frame_is_what_was_saved(size: tuple[int, int], mode: str) -> None:
    content = saved(size, mode)
    assert largest_frame(io.BytesIO(content)) == Frame(*size)
    assert largest_frame(io.BytesIO(lying(content, 8, 8))) == Frame(*size)


def test_a_frame_over_the_limit_is_refused_before_it_is_decoded(tmp_path: Path, undecoded: None) -> None:
    path = tmp_path / "a.avif"
    path.write_bytes(lying(saved((1200, 900)), 100, 100))
    with pytest.raises(ImageTooLarge) as caught:
        decode(str(path), max_pixels=1_000_000)
    assert caught.value.details == {"width": 1200, "height": 900, "max_pixels": 1_000_000}


def test_a_frame_larger_than_the_container_says_is_refused(tmp_path: Path, undecoded: None) -> None:
    path = tmp_path / "a.avif"
    path.write_bytes(lying(saved((1200, 900)), 100, 100))
    with pytest.raises(ImageInvalid, match="100 x 100 pixels and has 1200 x 900"):
        decode(str(path))


def test_what_cannot_be_told_is_unknown_and_never_an_exception() -> None:
    content = saved((30, 20))
    for length in range(0, len(content), 3):
        assert largest_frame(io.BytesIO(content[:length])) in (None, Frame(30, 20))
    sequence = saved((30, 20), save_all=True, append_images=[Image.new("RGB", (30, 20))])
    assert largest_frame(io.BytesIO(sequence)) is None
    for at in range(len(content)):
        damaged = content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]
        found = largest_frame(io.BytesIO(damaged))
        assert found is None or found.width > 0


def test_a_sequence_is_still_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    path.write_bytes(saved((30, 20), save_all=True, append_images=[Image.new("RGB", (30, 20))]))
    assert decode(str(path), max_pixels=1000).size == (30, 20)
