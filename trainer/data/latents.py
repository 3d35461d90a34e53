"""Fills the cache with the latents of a run's pictures, so that the VAE is not needed in the loop."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
import torch

from contract.errors import ImageError, LorakeetError, PathError, WeightsNotFinite
from contract.rules.buckets import Placed
from contract.rules.paths import to_wire
from trainer.data.bucket_plan import BucketPlan
from trainer.data.cache import Cache, CacheWriter, folder_of, key_of, seed_of
from trainer.data.collection import Bad, Picture, Skipped
from trainer.data.loader import Loader
from trainer.data.picture import MAX_PIXELS, Corner, Pixels, centre, cut, decode
from trainer.data.subset import Subset

#: The name of the tensor in an entry.
LATENTS: Final = "latents"
#: Changes where the same picture would become other latents: another filter, another cut.
_PIPELINE: Final = 1


class Encode(Protocol):
    """What the VAE does: pictures (b, 3, h, w) in fp32, -1 to 1, as latents (b, c, h / 8, w / 8); where it
    draws, with one of `seeds` for each.

    Latents of a picture should not depend on what else is in the batch. On a CPU they do in their last bits,
    so a run that must be repeated to the bit encodes one picture at a time.
    """

    def __call__(self, pixels: torch.Tensor, seeds: Sequence[int]) -> torch.Tensor: ...


class LatentKeys(NamedTuple):
    """What latents depend on beside the picture: the VAE and how it is used, and the type they have here."""

    model: str
    dtype: torch.dtype

    def folder(self, root: str) -> str:
        """The folder of these latents in the folder of all."""
        return folder_of(root, self.model, str(self.dtype))

    def of(self, picture: Picture, placed: Placed, corner: Corner, *, flip: bool) -> str:
        """The key of a picture's latents, flipped or not."""
        bucket, resized = placed
        dtype = str(self.dtype)
        return key_of(
            "latents", _PIPELINE, picture.sha256, self.model, dtype, *bucket, *resized, *corner, flip
        )


class _Wanted(NamedTuple):
    """A picture with the keys that are missing, by whether they are flipped."""

    picture: Picture
    placed: Placed
    corner: Corner
    keys: dict[bool, str]


class _Cut(NamedTuple):
    key: str
    path: str
    pixels: Pixels


def fill_latents(
    cache: Cache,
    keys: LatentKeys,
    plan: BucketPlan,
    subsets: Sequence[Subset],
    encode: Encode,
    *,
    batch_size: int = 1,
    bad: Bad = "refuse",
    max_pixels: int = MAX_PIXELS,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> list[Skipped]:
    """Encode what is missing of the pictures of `plan`, in batches of one size; those that cannot be decoded.

    Subsets that are cropped by chance are left alone: their latents differ from epoch to epoch. `step` is
    told how many pictures of how many are done, and may raise; what was encoded by then is kept. Raises what
    `decode` raises where bad pictures are refused, WeightsNotFinite for latents that are no numbers, DiskFull
    and FileUnwritable.
    """
    wanted = list(_wanted(cache, keys, plan, subsets))
    skipped: list[Skipped] = []

    def cuts(each: _Wanted) -> list[_Cut] | Skipped:
        return _cuts(each, max_pixels)

    with CacheWriter(cache) as writer, Loader(wanted, cuts, ahead=2 * batch_size) as loader:
        held: list[_Cut] = []
        for done, (each, loaded) in enumerate(zip(wanted, loader, strict=True), 1):
            if isinstance(loaded, Skipped):
                if bad == "refuse":
                    raise loaded.error
                skipped.append(loaded)
            else:
                held += loaded
            is_last = done == len(wanted) or wanted[done].placed.bucket != each.placed.bucket
            while len(held) >= batch_size or (is_last and held):
                _encode(held[:batch_size], encode, keys.dtype, writer)
                del held[:batch_size]
            step(done, len(wanted))
    return skipped


def as_pixels(cuts: Sequence[Pixels]) -> torch.Tensor:
    """Cuts of one size as a batch for the VAE: (b, 3, h, w) in fp32, -1 to 1."""
    batch = torch.from_numpy(np.stack(cuts)).permute(0, 3, 1, 2)
    return batch.to(torch.float32).div_(127.5).sub_(1)


def _wanted(cache: Cache, keys: LatentKeys, plan: BucketPlan, subsets: Sequence[Subset]) -> Iterator[_Wanted]:
    """What is missing, bucket by bucket; a picture that is there several times only once."""
    seen: set[str] = set()
    for numbers in plan.buckets.values():
        for number in numbers:
            picture, placed = plan.pictures[number], plan.placed[number]
            subset = subsets[picture.subset]
            if subset.random_crop:
                continue
            corner = centre(placed)
            both = (False, True) if subset.flip else (False,)
            named = {flip: keys.of(picture, placed, corner, flip=flip) for flip in both}
            missing = {flip: key for flip, key in named.items() if key not in cache and key not in seen}
            seen.update(missing.values())
            if missing:
                yield _Wanted(picture, placed, corner, missing)


def _cuts(wanted: _Wanted, max_pixels: int) -> list[_Cut] | Skipped:
    picture, placed, corner, keys = wanted
    try:
        # Others will believe the key.
        image = decode(picture.path, max_pixels=max_pixels, sha256=picture.sha256)
    except (ImageError, PathError) as error:
        return Skipped(picture.path, error)
    return [_Cut(key, picture.path, cut(image, placed, corner, flip=flip)) for flip, key in keys.items()]


def _encode(cuts: Sequence[_Cut], encode: Encode, dtype: torch.dtype, writer: CacheWriter) -> None:
    latents = encode(as_pixels([each.pixels for each in cuts]), [seed_of(each.key) for each in cuts])
    for each, latent in zip(cuts, latents.to(dtype), strict=True):
        if not bool(torch.isfinite(latent).all()):
            raise _not_finite(each.path)
        writer.put(each.key, {LATENTS: latent})


def _not_finite(path: str) -> LorakeetError:
    named = to_wire(path)
    return WeightsNotFinite(
        f"The VAE makes no numbers of `{named}`.",
        where=named,
        hint="Run the VAE in fp32, or use one that was repaired for fp16.",
    )
