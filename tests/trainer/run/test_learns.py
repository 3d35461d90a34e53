"""A training learns: what a model says of noise on its picture is nearer to the truth afterwards."""

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file

from tests.bench import weights
from tests.faults.seeds import chance
from tests.trainer.run import by_hand, learning, runs
from trainer.fixtures import Fixture

STEPS: Final = 50
#: Pairs of noise and timestep that a model is judged by, and how many of them at once.
PAIRS: Final = 32
AT_ONCE: Final = 8
#: Ends up lower by at least this share; with an optimizer as its settings come, or nearly so.
MUCH: Final = 0.4
CLEARLY: Final = 0.1
CAPTION: Final = "a cat"
#: Convolutions, and what leads into transformers and out of them. In the outer blocks of SDXL's U-Net there
#: is no attention, and nothing that LoRA could change.
NETWORK: Final = {"type": "locon", "rank": 8, "alpha": 8.0, "conv_rank": 8, "conv_alpha": 8.0}
MODULES: Final = {
    "sd15": ["*_conv*", "*proj_in", "*proj_out"],
    "sdxl": ["*in_layers_2", "*out_layers_3", "*skip_connection", "*_op", "*_conv", "*proj_in", "*proj_out"],
}
#: Rates at which this small a model learns something in so few steps.
OPTIMIZERS: Final[dict[str, dict[str, Any]]] = {
    "lion": {"learning_rate": 1e-3},
    "adafactor": {"learning_rate": 1e-2},
    "prodigy": {"d_coef": 2.0},
    "adamw_schedule_free": {"learning_rate": 2e-2},
    "sgd_schedule_free": {"learning_rate": 1.0},
    "radam_schedule_free": {"learning_rate": 2e-2},
    "custom": {"import_name": "torch.optim.RMSprop", "learning_rate": 2e-3},
}


class Judge:
    """The loss over always the same pairs of noise and timestep, by the papers and not by the trainer."""

    def __init__(self, model: Fixture, picture: Path) -> None:
        self._model = by_hand.Model(model.family, model.folder, scale=1.0)
        self._latents = _encoded(model.folder, picture)

    @torch.no_grad()
    def loss(self, factors: by_hand.Factors) -> float:
        """With these factors; of none, that of the model alone."""
        source = torch.Generator().manual_seed(99)
        objective = by_hand.Objective("epsilon", "none", "l2")
        costs = []
        for first in range(0, PAIRS, AT_ONCE):
            latents = self._latents.expand(AT_ONCE, -1, -1, -1)
            seen = by_hand.Seen(
                latents,
                torch.randn(latents.shape, generator=source),
                torch.arange(first, first + AT_ONCE) * 1000 // PAIRS + 15,
                [CAPTION] * AT_ONCE,
                [[learning.SIDE, learning.SIDE, 0, 0, learning.SIDE, learning.SIDE]] * AT_ONCE,
            )
            costs.append(objective.losses(self._model, seen, factors))
        return float(torch.cat(costs).mean())


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_fifty_steps_on_one_picture_lower_a_fixed_loss_by_two_fifths(
    family: str, tmp_path: Path, models: Path
) -> None:
    optimizer = {"type": "adamw", "learning_rate": 1e-2}
    assert _lowered(family, models, tmp_path, optimizer) >= MUCH


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_full_size_model_does_five_steps_in_bf16(tmp_path: Path) -> None:
    source = runs.pictures(tmp_path / "source", count=2)
    asked = runs.request(
        weights.checkpoint(weights.FULL, 0),
        source,
        tmp_path / "place",
        network={"include": []},
        data={"resolution": 256, "buckets": {"min_side": 256, "max_side": 256}},
        precision={"compute": "bf16"},
        memory={"gradient_checkpointing": True},
        training={"steps": 5},
        saving={"naming": "kohya"},
    )
    watcher = runs.Recorder()
    outcome = runs.go(asked, watcher)
    assert (outcome.steps, len(watcher.items)) == (5, 5)
    assert all(math.isfinite(each.loss) for each in watcher.items)
    factors = load_file(asked.output)
    ups = [value for name, value in factors.items() if name.endswith(".lora_up.weight")]
    # 192 modules of the U-Net, and every one of them has moved from zero.
    assert len(ups) == 192
    assert all(bool(up.any()) and bool(up.isfinite().all()) for up in ups)


@pytest.mark.slow
def test_adamw_with_eight_bits_learns(tmp_path: Path, models: Path) -> None:
    pytest.importorskip("bitsandbytes")
    assert _lowered("sd15", models, tmp_path, {"type": "adamw8bit", "learning_rate": 1e-2}) >= CLEARLY


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_learns(name: str, tmp_path: Path, models: Path) -> None:
    assert _lowered("sd15", models, tmp_path, {"type": name, **OPTIMIZERS[name]}) >= CLEARLY


def test_one_of_the_optimizers_learns(tmp_path: Path, models: Path) -> None:
    name = chance("optimizers that learn", 0).choice(sorted(OPTIMIZERS))
    assert _lowered("sd15", models, tmp_path, {"type": name, **OPTIMIZERS[name]}) >= CLEARLY, name


def _lowered(family: str, models: Path, folder: Path, optimizer: dict[str, Any]) -> float:
    """The share by which the loss is lower after the training."""
    model = learning.fixture(family, models)
    # Eight turns an epoch: a batch has the picture eight times.
    pictures = learning.drawn(folder / "pictures" / "8_cat", {"cat": CAPTION})
    judge = Judge(model, pictures / "cat.png")
    asked = runs.request(
        model.file,
        pictures.parent,
        folder / "place",
        **{
            **learning.WHOLE,
            "network": {**NETWORK, "include": MODULES[family]},
            "training": {"steps": STEPS, "batch_size": 8},
            "optimizer": optimizer,
            "schedule": {"type": "constant"},
            "objective": {"weighting": "none"},
        },
    )
    runs.go(asked)
    return 1 - judge.loss(load_file(asked.output)) / judge.loss({})


def _encoded(folder: Path, picture: Path) -> torch.Tensor:
    """The mean of what the VAE makes of a picture, as the U-Net takes it: (1, 4, h, w)."""
    vae: Any = AutoencoderKL.from_pretrained(folder / "vae", local_files_only=True)
    pixels = torch.from_numpy(np.array(Image.open(picture))).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        latents: torch.Tensor = vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor
    return latents
