"""Fills the cache with what the text encoders make of the captions, so that they can be unloaded before the
first step. Only for encoders that are not trained."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch

from contract.errors import WeightsNotFinite
from trainer.data.bucket_plan import BucketPlan
from trainer.data.cache import Cache, CacheWriter, folder_of, key_of
from trainer.data.caption import Captioner
from trainer.data.subset import Subset


class EncodeText(Protocol):
    """What the text encoders do: captions as named tensors, whose first dimension are the captions."""

    def __call__(self, captions: Sequence[str]) -> Mapping[str, torch.Tensor]: ...


class TextKeys(NamedTuple):
    """What embeddings depend on beside the text: the encoders, how they are used, and the type they are kept
    in."""

    model: str
    max_tokens: int
    clip_skip: int | None
    dtype: torch.dtype

    def folder(self, root: str) -> str:
        """The folder of these embeddings in the folder of all."""
        return folder_of(root, self.model, self.max_tokens, self.clip_skip, str(self.dtype))

    def of(self, caption: str) -> str:
        """The key of a caption's embeddings."""
        return key_of("text", caption, self.model, self.max_tokens, self.clip_skip, str(self.dtype))


def captions_of(plan: BucketPlan, subsets: Sequence[Subset], captioner: Captioner, epochs: int) -> list[str]:
    """Every caption that a run of so many epochs may meet, each once."""
    found: dict[str, None] = {}
    for picture in plan.pictures:
        rules = subsets[picture.subset].captions
        turns = epochs * picture.repeats
        found |= dict.fromkeys(captioner.all(picture.caption, rules, picture.sha256, turns))
    return list(found)


def fill_texts(
    cache: Cache,
    keys: TextKeys,
    captions: Sequence[str],
    encode: EncodeText,
    *,
    batch_size: int = 1,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Encode those of `captions` that are missing. `step` is told how many of how many are done.

    What `step` raises ends it; what was encoded by then is kept. Raises WeightsNotFinite, DiskFull and
    FileUnwritable.
    """
    missing = [caption for caption in dict.fromkeys(captions) if keys.of(caption) not in cache]
    with CacheWriter(cache) as writer:
        for start in range(0, len(missing), batch_size):
            batch = missing[start : start + batch_size]
            encoded = {name: each.to(keys.dtype) for name, each in encode(batch).items()}
            if not all(bool(torch.isfinite(each).all()) for each in encoded.values()):
                raise WeightsNotFinite(
                    "The text encoders make no numbers of a caption.",
                    hint="Run them in fp32 or bf16.",
                    details={"captions": batch},
                )
            for number, caption in enumerate(batch):
                writer.put(keys.of(caption), {name: each[number] for name, each in encoded.items()})
            step(start + len(batch), len(missing))
