"""A run's worth of real photographs of several shapes, with captions, for the tests beside this file."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import functional

from contract.methods.training.captions import Captions
from contract.rules.buckets import BucketRules, Size
from tests.builders.pictures import photo
from trainer.data.bucket_plan import BucketPlan
from trainer.data.collection import collect, listed_in
from trainer.data.subset import Subset

RULES = BucketRules(resolution=Size(128, 128), min_side=64, max_side=256)
#: Photograph, its size in the folder.
PHOTOS = {
    "china": (320, 213),
    "flower": (320, 213),
    "coffee": (300, 200),
    "astronaut": (256, 256),
    "camera": (200, 200),
    "rocket": (160, 300),
}


def pictures(folder: Path) -> Path:
    """The photographs as files, each with a caption of five tags."""
    folder.mkdir(parents=True)
    for name, size in PHOTOS.items():
        photo(name).resize(size).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"{name}, one, two, three, four")
    return folder


def subset(folder: Path, *, flip: bool = False, random_crop: bool = False, repeats: int = 1) -> Subset:
    """A subset whose captions vary."""
    return Subset(
        name=folder.name,
        folder=os.fspath(folder),
        repeats=repeats,
        flip=flip,
        random_crop=random_crop,
        captions=Captions(shuffle=True, tag_dropout=0.1, caption_dropout=0.1),
    )


def plan_of(*subsets: Subset, batch_size: int = 2) -> BucketPlan:
    """The plan of these subsets."""
    return BucketPlan(collect(listed_in(subsets), subsets).pictures, RULES, batch_size)


class Encoder:
    """Stands in for a VAE: the mean of 8 x 8 pixels, and noise of the seed. It counts pictures."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    @property
    def pictures(self) -> int:
        return sum(shape[0] for shape in self.shapes)

    def __call__(self, pixels: torch.Tensor, seeds: Sequence[int]) -> torch.Tensor:
        assert pixels.dtype == torch.float32
        assert -1 <= pixels.min() < pixels.max() <= 1
        self.shapes.append(tuple(pixels.shape))
        means = functional.avg_pool2d(pixels, 8)
        noise = [torch.rand(means[0, :1].shape, generator=_generator(seed)) for seed in seeds]
        return torch.cat([means, torch.stack(noise)], dim=1)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
