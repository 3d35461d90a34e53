"""Aspect buckets: which size a picture is trained at, so that pictures of one size can share a batch.

The sizes and the choice are those of the reference trainer (kohya-ss/sd-scripts, `make_bucket_resolutions`
and `BucketManager.select_bucket`), so that a plan made there is the plan here. Both sides need them: the
trainer, and whoever shows a plan before a run. Nothing here looks at a file.
"""

from collections.abc import Iterator
from functools import cached_property
from math import isqrt, sqrt
from typing import Final, NamedTuple

import msgspec

#: Pixels of a latent; every side of a bucket is a multiple of it.
LATENT_STEP: Final = 8


class Size(NamedTuple):
    """A width and a height in pixels."""

    width: int
    height: int

    @property
    def area(self) -> int:
        """Pixels in all."""
        return self.width * self.height

    @property
    def aspect(self) -> float:
        """Width per height."""
        return self.width / self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


class Placed(NamedTuple):
    """Where a picture goes: it is scaled to `resized`, of which `bucket` is cut out."""

    bucket: Size
    resized: Size

    @property
    def cropped(self) -> float:
        """The share of the scaled picture that is cut off, 0 to 1."""
        return 1 - self.bucket.area / self.resized.area


class BucketRules(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """How buckets are made.

    `resolution` says how many pixels a bucket has at most. `min_side` and `max_side` bound the sides of
    buckets, in pixels, and `step` divides them. Without `upscale` no picture is enlarged: buckets are then
    made for the pictures, `min_side` and `max_side` do not count, and a bucket may have up to a row and a
    column of pixels more. Without `enabled` the resolution is the only bucket. Raises ValueError where these
    contradict each other.
    """

    resolution: Size
    min_side: int = 256
    max_side: int = 2048
    step: int = 64
    upscale: bool = True
    enabled: bool = True

    def __post_init__(self) -> None:
        if self.step < LATENT_STEP or self.step % LATENT_STEP:
            raise ValueError(f"the step must be a multiple of {LATENT_STEP}")
        if min(self.resolution) < self.step:
            raise ValueError("the resolution must be at least one step")
        if not self.enabled and any(side % LATENT_STEP for side in self.resolution):
            raise ValueError(f"without buckets, the resolution must be a multiple of {LATENT_STEP}")
        if self.enabled and self.upscale:
            self._check_sides()

    @cached_property
    def sizes(self) -> tuple[Size, ...]:
        """The buckets there are, by width and height; none where they are made for the pictures."""
        if not self.enabled:
            return (self.resolution,)
        return tuple(sorted(set(self._sizes()))) if self.upscale else ()

    def place(self, width: int, height: int) -> Placed:
        """The bucket of a picture of so many pixels, upright. Raises ValueError where it has none."""
        if width < 1 or height < 1:
            raise ValueError("a picture has at least one pixel")
        picture = Size(width, height)
        if self.enabled and not self.upscale:
            return self._unenlarged(picture)
        bucket = picture if picture in self.sizes else self._nearest(picture)
        return Placed(bucket, covering(picture, bucket))

    def _check_sides(self) -> None:
        if self.min_side > self.max_side:
            raise ValueError("the smallest side must not be larger than the largest")
        if self.min_side % self.step:
            raise ValueError("the smallest side must be a multiple of the step")
        if self.max_side < max(self.resolution):
            raise ValueError("the largest side must not be smaller than the resolution")

    def _sizes(self) -> Iterator[Size]:
        """A square, and for every width the greatest height that keeps the area; each also lying."""
        square = self._down(isqrt(self.resolution.area))
        yield Size(square, square)
        for width in range(max(self.min_side, self.step), self.max_side + 1, self.step):
            height = min(self._down(self.max_side), self._down(self.resolution.area // width))
            if height >= self.min_side and height:
                yield Size(width, height)
                yield Size(height, width)

    def _nearest(self, picture: Size) -> Size:
        return min(self.sizes, key=lambda size: abs(size.aspect - picture.aspect))

    def _unenlarged(self, picture: Size) -> Placed:
        """Shrunk to the area where it has more, then the largest bucket that fits into it.

        A picture of less than a step is enlarged to one: no bucket is smaller.
        """
        resized = self._shrunk(picture) if picture.area > self.resolution.area else picture
        bucket = Size(*(max(self.step, self._down(side)) for side in resized))
        if bucket.width <= resized.width and bucket.height <= resized.height:
            return Placed(bucket, resized)
        longest = self._down(self.resolution.area // min(bucket))
        bucket = Size(min(bucket.width, longest), min(bucket.height, longest))
        return Placed(bucket, covering(picture, bucket))

    def _shrunk(self, picture: Size) -> Size:
        """About as many pixels as the resolution, one side on a step: the one that keeps the aspect best."""
        aspect = picture.aspect
        width = sqrt(self.resolution.area * aspect)
        wide, high = self._rounded(width), self._rounded(self.resolution.area / width)
        by_width, by_height = self._rounded(wide / aspect), self._rounded(high * aspect)
        if not by_width or not high:
            return Size(wide, high)
        if abs(wide / by_width - aspect) < abs(by_height / high - aspect):
            return Size(wide, _nearest_int(wide / aspect))
        return Size(_nearest_int(high * aspect), high)

    def _rounded(self, side: float) -> int:
        return self._down(_nearest_int(side))

    def _down(self, side: int) -> int:
        return side - side % self.step


def covering(picture: Size, bucket: Size) -> Size:
    """`picture` scaled so that it just covers `bucket`."""
    if picture.aspect > bucket.aspect:
        scale = bucket.height / picture.height
    else:
        scale = bucket.width / picture.width
    width, height = _nearest_int(picture.width * scale), _nearest_int(picture.height * scale)
    return Size(max(width, bucket.width), max(height, bucket.height))


def _nearest_int(number: float) -> int:
    """Halves upwards, unlike Python's `round`."""
    return int(number + 0.5)
