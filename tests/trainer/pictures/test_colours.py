"""Every depth of colour comes to eight bits."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.data.picture import decode
from trainer.pictures import colours


@pytest.mark.parametrize("shape", [(50, 70), (1, 2000), (2000, 1), (33, 31)])
def test_grey_in_strips_is_grey_in_one_piece(
    shape: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = np.random.default_rng(0)
    floats = dice.uniform(-5, 9, shape).astype(np.float32)
    floats[0, 0] = np.nan
    for name, values in (
        ("a.png", dice.integers(0, 65536, shape).astype(np.uint16)),
        ("f.tif", floats),
        ("i.tif", dice.integers(-9, 70_000, shape).astype(np.int32)),
    ):
        path = tmp_path / name
        Image.fromarray(values).save(path)
        monkeypatch.setattr(colours, "_STRIP_PIXELS", 1 << 30)
        whole = np.asarray(decode(str(path)))
        monkeypatch.setattr(colours, "_STRIP_PIXELS", 100)
        assert (np.asarray(decode(str(path))) == whole).all()
