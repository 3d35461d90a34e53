"""The formats that are read, and what has to be said to Pillow once a process."""

import importlib
import warnings
from typing import Final

from PIL import Image

#: Formats people keep pictures in. Pillow knows more; some of those run a program (EPS) or recognise
#: themselves in almost any bytes (TGA).
FORMATS: Final = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM", "QOI")
_PLUGINS: Final = ("Avif", "Bmp", "Gif", "Jpeg", "Jpeg2K", "Mpo", "Png", "Ppm", "Qoi", "Tiff", "WebP")

# Pillow would import its plugins in the middle of the first picture, in several threads at once.
for _plugin in _PLUGINS:
    importlib.import_module(f"PIL.{_plugin}ImagePlugin")

# Pillow's own limit is process-wide, warns at one size and raises at another; `max_pixels` is the limit here.
Image.MAX_IMAGE_PIXELS = None

# What Pillow has to say about odd metadata is no news to anybody: a picture decodes or is refused. Filters
# are process-wide and `catch_warnings` is not safe in threads, so this is set once.
warnings.filterwarnings("ignore", module=r"PIL\.")
