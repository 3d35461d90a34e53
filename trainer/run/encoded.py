"""What is encoded before the first step: the latents of pictures, the embeddings of captions and prompts."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final, NamedTuple

import torch

from contract.methods.train import TrainSettings
from contract.methods.training.plan import TrainPlan
from trainer.data.bucket_plan import BucketPlan, rules_of
from trainer.data.cache import Cache
from trainer.data.caption import Captioner
from trainer.data.collection import Collection
from trainer.data.examples import CachedLatents, CachedTexts, Examples
from trainer.data.latents import LatentKeys, fill_latents
from trainer.data.sampler import Sampler
from trainer.data.subset import Subset
from trainer.data.texts import TextKeys, captions_of, fill_texts
from trainer.run.frozen import Pictures
from trainer.run.occasions import steps_of
from trainer.run.parts import Parts
from trainer.run.preflight import Known
from trainer.run.request import Request
from trainer.sampling.painter import texts_of

LATENTS: Final = "latents"
TEXT: Final = "text"

#: Told the phase, how many are done, and of how many; may raise.
Step = Callable[[str, int, int], None]


class Data(NamedTuple):
    """Everything about the pictures that the loop needs. `texts` are kept where the encoders are not needed
    any more; `total` are the steps of the run."""

    collection: Collection
    subsets: list[Subset]
    plan: BucketPlan
    sampler: Sampler
    examples: Examples
    texts: CachedTexts | None
    total: int

    @property
    def needs_vae(self) -> bool:
        """Whether pictures are encoded in the loop, if only some."""
        return not self.examples.caches_latents or any(each.random_crop for each in self.subsets)

    def shown(self, settings: TrainSettings) -> TrainPlan:
        """How the pictures go through the run."""
        return self.plan.shown(settings.training.accumulation, self.total)


def encode_all(
    request: Request, known: Known, pictures: Pictures, parts: Parts, files: ExitStack, step: Step
) -> Data:
    """Encode what is missing in the caches, which stay open until `files` are closed.

    Raises what `fill_latents`, `fill_texts`, `Family.load` and `rules_of` raise.
    """
    settings = request.settings
    collection, subsets = pictures
    plan = plan_of(settings, known, collection)
    latents = None
    if settings.caching.latents != "off":
        latents, collection = _latents(request, known, plan, pictures, parts, files, step)
        if len(collection.pictures) < len(plan.pictures):
            plan = plan_of(settings, known, collection)
    sampler = sampler_of(settings, plan)
    total = steps_of(settings, sampler.steps_per_epoch)
    texts = None
    if settings.caches_text:
        epochs = -(-total // sampler.steps_per_epoch)
        wanted = captions_of(plan, subsets, captioner_of(settings), epochs)
        prompts = [text for prompt in known.prompts for text in texts_of(prompt)]
        texts = _texts(request, known, [*wanted, *prompts], parts, files, step)
    examples = Examples(
        plan,
        subsets,
        seed=settings.training.seed,
        latents=latents,
        texts=texts,
        caption_variants=_variants(settings),
        max_pixels=request.max_pixels,
    )
    return Data(collection, subsets, plan, sampler, examples, texts, total)


def plan_of(settings: TrainSettings, known: Known, collection: Collection) -> BucketPlan:
    """Which picture is trained at which size. Raises InvalidParams."""
    rules = rules_of(settings.data, known.size)
    return BucketPlan(collection.pictures, rules, settings.training.batch_size)


def planned(request: Request, known: Known, pictures: Pictures) -> TrainPlan:
    """How the pictures would go through a run. Raises InvalidParams."""
    settings = request.settings
    plan = plan_of(settings, known, pictures.collection)
    total = steps_of(settings, sampler_of(settings, plan).steps_per_epoch)
    return plan.shown(settings.training.accumulation, total)


def sampler_of(settings: TrainSettings, plan: BucketPlan) -> Sampler:
    """The order of the pictures."""
    training = settings.training
    return Sampler(
        plan.buckets,
        [each.repeats for each in plan.pictures],
        batch_size=training.batch_size,
        seed=training.seed,
        accumulation=training.accumulation,
    )


def captioner_of(settings: TrainSettings) -> Captioner:
    """Says what pictures are called."""
    return Captioner(settings.training.seed, _variants(settings))


def _variants(settings: TrainSettings) -> int:
    """Only what is encoded before the run has to be few."""
    return settings.caching.caption_variants if settings.caches_text else 0


def _latents(
    request: Request,
    known: Known,
    plan: BucketPlan,
    pictures: Pictures,
    parts: Parts,
    files: ExitStack,
    step: Step,
) -> tuple[CachedLatents, Collection]:
    numbers = parts.numbers
    keys = LatentKeys(f"{known.vae} {numbers.vae} {numbers.device.type}", numbers.cached)
    cache = files.enter_context(Cache(keys.folder(os.path.join(request.cache, LATENTS))))

    def encode(pixels: torch.Tensor, seeds: Sequence[int]) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        with torch.no_grad():
            return parts.vae().encode_pixels(pixels, generators)

    skipped = fill_latents(
        cache,
        keys,
        plan,
        pictures.subsets,
        encode,
        batch_size=1 if numbers.is_exact else request.settings.caching.latent_batch,
        bad=request.settings.data.bad_images,
        max_pixels=request.max_pixels,
        step=lambda done, total: step(LATENTS, done, total),
    )
    collection = pictures.collection.without(skipped) if skipped else pictures.collection
    return CachedLatents(cache, keys), collection


def _texts(
    request: Request, known: Known, captions: Sequence[str], parts: Parts, files: ExitStack, step: Step
) -> CachedTexts:
    settings, numbers = request.settings, parts.numbers
    keys = TextKeys(
        f"{known.text} {numbers.compute} {numbers.device.type}",
        settings.data.captions.max_tokens,
        settings.model.clip_skip,
        numbers.cached,
    )
    cache = files.enter_context(Cache(keys.folder(os.path.join(request.cache, TEXT))))

    def encode(captions: Sequence[str]) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            return parts.text().encode_text(
                captions, max_tokens=settings.data.captions.max_tokens, clip_skip=settings.model.clip_skip
            )

    fill_texts(
        cache,
        keys,
        captions,
        encode,
        batch_size=1 if numbers.is_exact else settings.caching.text_batch,
        step=lambda done, total: step(TEXT, done, total),
    )
    return CachedTexts(cache, keys)
