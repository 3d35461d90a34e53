"""What the loop gets at one position: latents or pixels, captions or their embeddings, and the sizes.

Everything that chance decides about a picture (its caption, its flip, its crop) follows from the seed, the
epoch, the picture's content and its turn in the epoch, and from nothing that happened before.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch

from contract.rules.buckets import Placed, Size
from trainer.data.bucket_plan import BucketPlan
from trainer.data.cache import Cache
from trainer.data.caption import Captioner
from trainer.data.draws import draws
from trainer.data.latents import LATENTS, LatentKeys, as_pixels
from trainer.data.picture import MAX_PIXELS, Corner, Pixels, centre, cut, decode
from trainer.data.sampler import Batch, Item
from trainer.data.subset import Subset
from trainer.data.texts import TextKeys
from trainer.families.base import Sizes

#: A chance of one half.
_HALF: Final = 0.5


class Framing(NamedTuple):
    """How a picture is cut in one turn: the cut begins at `corner` of the picture as it is scaled, and is
    mirrored afterwards if `flip`.
    """

    placed: Placed
    corner: Corner
    flip: bool

    def sizes(self, original: Size) -> Sizes:
        """What SDXL is told. Where the cut is mirrored, its place is that in the mirrored picture."""
        (bucket, resized), (left, top), flip = self
        left = resized.width - bucket.width - left if flip else left
        return Sizes(
            original=(original.height, original.width),
            crop=(top, left),
            target=(bucket.height, bucket.width),
        )


class Example(NamedTuple):
    """A batch, loaded. Of `latents` (b, c, h, w) and `pixels` (b, 3, 8 h, 8 w), fp32, -1 to 1, one is there.

    `conditions` are the captions' embeddings where they are cached, each (b, …); else None.
    """

    batch: Batch
    paths: list[str]
    captions: list[str]
    sizes: list[Sizes]
    latents: torch.Tensor | None
    pixels: torch.Tensor | None
    conditions: dict[str, torch.Tensor] | None


class CachedLatents(NamedTuple):
    """Where latents are, and by which keys."""

    cache: Cache
    keys: LatentKeys


class CachedTexts(NamedTuple):
    """Where embeddings are, and by which keys."""

    cache: Cache
    keys: TextKeys


class Examples:
    """Makes examples of batches; any thread may call `load`."""

    def __init__(
        self,
        plan: BucketPlan,
        subsets: Sequence[Subset],
        *,
        seed: int,
        latents: CachedLatents | None = None,
        texts: CachedTexts | None = None,
        caption_variants: int = 0,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Without `latents`, and for batches with a picture that is cropped by chance, pixels are loaded.
        `caption_variants` is that of Captioner.
        """
        self._plan = plan
        self._subsets = subsets
        self._seed = seed
        self._captioner = Captioner(seed, caption_variants)
        self._latents = latents
        self._texts = texts
        self._max_pixels = max_pixels

    @property
    def caches_latents(self) -> bool:
        """Whether there is a cache for those that are not cropped by chance."""
        return self._latents is not None

    def load(self, batch: Batch) -> Example:
        """The example of `batch`. Raises what `decode` and `Cache.read` raise."""
        pictures = [self._plan.pictures[item.picture] for item in batch.items]
        framings = [self.framing(batch.epoch, item) for item in batch.items]
        captions = [self.caption(batch.epoch, item) for item in batch.items]
        latents = self._cached(batch, framings)
        return Example(
            batch,
            [picture.path for picture in pictures],
            captions,
            [framing.sizes(picture.size) for framing, picture in zip(framings, pictures, strict=True)],
            latents,
            self._pixels(batch, framings) if latents is None else None,
            self._conditions(captions),
        )

    def framing(self, epoch: int, item: Item) -> Framing:
        """How the picture is cut in this turn."""
        placed = self._plan.placed[item.picture]
        picture = self._plan.pictures[item.picture]
        subset = self._subsets[picture.subset]
        chance = draws(self._seed, "framing", epoch, picture.sha256, item.repeat)
        flip = chance.random() < _HALF and subset.flip
        if not subset.random_crop:
            return Framing(placed, centre(placed), flip)
        bucket, resized = placed
        left = chance.randint(0, resized.width - bucket.width)
        return Framing(placed, Corner(left, chance.randint(0, resized.height - bucket.height)), flip)

    def caption(self, epoch: int, item: Item) -> str:
        """What the picture is called in this turn."""
        picture = self._plan.pictures[item.picture]
        rules = self._subsets[picture.subset].captions
        turn = epoch * picture.repeats + item.repeat
        return self._captioner.at(picture.caption, rules, picture.sha256, turn)

    def _cached(self, batch: Batch, framings: Sequence[Framing]) -> torch.Tensor | None:
        pictures = [self._plan.pictures[item.picture] for item in batch.items]
        by_chance = any(self._subsets[picture.subset].random_crop for picture in pictures)
        if self._latents is None or by_chance:
            return None
        cache, keys = self._latents
        named = [
            keys.of(picture, placed, corner, flip=flip)
            for picture, (placed, corner, flip) in zip(pictures, framings, strict=True)
        ]
        return torch.stack([cache.read(key)[LATENTS] for key in named])

    def _pixels(self, batch: Batch, framings: Sequence[Framing]) -> torch.Tensor:
        pairs = zip(batch.items, framings, strict=True)
        return as_pixels([self._cut(item, framing) for item, framing in pairs])

    def _cut(self, item: Item, framing: Framing) -> Pixels:
        picture = self._plan.pictures[item.picture]
        image = decode(picture.path, max_pixels=self._max_pixels, sha256=picture.sha256)
        return cut(image, framing.placed, framing.corner, flip=framing.flip)

    def _conditions(self, captions: Sequence[str]) -> dict[str, torch.Tensor] | None:
        if self._texts is None:
            return None
        cache, keys = self._texts
        read = [cache.read(keys.of(caption)) for caption in captions]
        return {name: torch.stack([each[name] for each in read]) for name in read[0]}
