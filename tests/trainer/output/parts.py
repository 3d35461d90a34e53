"""A training as it is known when it writes a file: that of `kohya-formats`, of eight pictures."""

from typing import Any

import msgspec

from contract.methods.train import TrainSettings
from contract.methods.training.captions import Captions
from contract.methods.training.model import TrainModel
from contract.methods.weights import WeightsFile
from contract.rules.buckets import BucketRules, Size
from trainer.data.bucket_plan import BucketPlan
from trainer.data.collection import Picture
from trainer.data.subset import Subset
from trainer.output import ModelFile, Moment, TrainingFacts

BASE = ModelFile(name="sd15_tiny.safetensors", sha256="4c" * 32, old="6bcc7017")
MOMENT = Moment(step=20, epoch=3, at=1795163764.4898555)
TAGS = ("1girl, solo", "1girl, Red Hair", "1girl,  solo,", "landscape", "", "1girl", "solo", "|||1girl")


def settings(**tables: Any) -> TrainSettings:
    """Those of that training; tables replace its own."""
    own: dict[str, Any] = {
        "model": {"base": {"path": "/home/ann/models/sd15_tiny.safetensors"}},
        "network": {"type": "lora", "rank": 16, "alpha": 8.0},
        "training": {"epochs": 3, "max_grad_norm": 1.0},
        "optimizer": {"type": "adamw", "text_encoder_rate": 5e-5},
        "schedule": {"type": "cosine_with_restarts", "warmup_steps": 2},
        "objective": {"noise_offset": 0.05},
        "memory": {"gradient_checkpointing": False},
    }
    return msgspec.convert(own | tables, TrainSettings)


def pictures(count: int = 8, subset: int = 0, repeats: int = 1) -> list[Picture]:
    """Pictures with hashes of their own; the second is lying."""
    return [
        Picture(
            f"/home/ann/pictures/train8/{number}.png",
            f"{subset:02x}{number:062x}",
            Size(768, 512) if number == 1 else Size(512, 512),
            subset,
            repeats,
            TAGS[number % len(TAGS)],
        )
        for number in range(count)
    ]


def subset(name: str = "train8", folder: str = "/home/ann/pictures/train8", **options: Any) -> Subset:
    """The one of that training."""
    return Subset(name=name, folder=folder, captions=Captions(), **options)


def facts(own: TrainSettings | None = None, **changed: Any) -> TrainingFacts:
    """What is known of it."""
    own = own or settings()
    every = changed.pop("pictures", None) or pictures()
    plan = BucketPlan(every, BucketRules(resolution=Size(512, 512)), own.training.batch_size)
    known: dict[str, Any] = {
        "settings": own,
        "name": "NAME",
        "family": "sd15",
        "prediction": "epsilon",
        "zero_snr": False,
        "size": 512,
        "compute": "fp32",
        "base": BASE,
        "subsets": [subset()],
        "pictures": every,
        "plan": plan.shown(accumulation=own.training.accumulation),
        "steps": 20,
        "epochs": 3,
        "session": 3949617319,
        "started_at": 1795166465.2811587,
        "device": "cpu",
        "versions": {"lorakeet": "0.1.0", "torch": "2.13.0"},
    }
    return TrainingFacts(**(known | changed))


def model(path: str = "/home/ann/models/sd15_tiny.safetensors", **options: Any) -> TrainModel:
    """A table `[model]`."""
    return TrainModel(base=WeightsFile(path=path), **options)
