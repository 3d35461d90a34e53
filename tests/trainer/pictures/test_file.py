"""What is no picture, or more of one than is wanted, is refused before it is read."""

import os
from pathlib import Path

import pytest

from contract.errors import ImageTooLarge
from trainer.pictures.file import opened


def test_a_sparse_file_longer_than_any_picture_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    path.write_bytes(b"RIFF\x10\0\0\0WEBPVP8 ")
    try:
        os.truncate(path, 4 << 40)
    except OSError:
        pytest.skip("this file system has no such files")
    with pytest.raises(ImageTooLarge, match="'a.webp'") as caught:
        with opened(str(path), max_pixels=64_000_000):
            pass
    assert caught.value.details["bytes"] == 4 << 40
    assert caught.value.where == str(path)
