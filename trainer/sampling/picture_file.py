"""Pictures as PNG files, with texts in them: all of a file appears at once under its name, or nothing."""

import io
import os
from collections.abc import Mapping

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from trainer.weights.unfinished import Unfinished, unwritten


def write_png(path: str, pixels: torch.Tensor, texts: Mapping[str, str]) -> int:
    """Write bytes [height, width, 3] over whatever is there, and say how long the file is, in bytes.

    `texts` become text chunks, in Unicode where they need it. Raises DiskFull and FileUnwritable, and then
    the old file stands.
    """
    raw = _encoded(pixels, texts)
    unfinished = Unfinished(path)
    try:
        _put(unfinished.descriptor, memoryview(raw))
        os.fsync(unfinished.descriptor)
        unfinished.publish(overwrite=True)
    except OSError as error:
        raise unwritten(error, path) from error
    finally:
        unfinished.discard()
    return len(raw)


def _encoded(pixels: torch.Tensor, texts: Mapping[str, str]) -> bytes:
    info = PngInfo()
    for key, text in texts.items():
        # Plain chunks are Latin-1, which Pillow turns into Unicode ones where it has to.
        info.add_text(key, text)
    raw = io.BytesIO()
    Image.fromarray(pixels.numpy(), "RGB").save(raw, "PNG", pnginfo=info)
    return raw.getvalue()


def _put(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
