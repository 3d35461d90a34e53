"""Samples of small models of every family, against pipelines of diffusers over the same weights."""

from pathlib import Path
from typing import Any

import diffusers
import numpy
import pytest
import torch

from contract.methods.training.sampling import Sampler, Sampling
from trainer.families import FAMILIES, ModelFiles
from trainer.fixtures.files import write
from trainer.objective.noise_schedule import scaled_linear
from trainer.sampling.of_family import encoded_ahead, painter_of
from trainer.sampling.painter import Painter, paint
from trainer.sampling.process import Process
from trainer.sampling.prompts import Prompt, prompts_of

SCHEDULERS: dict[Sampler, Any] = {
    "euler": diffusers.EulerDiscreteScheduler,
    "euler_a": diffusers.EulerAncestralDiscreteScheduler,
    "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
}
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Painter, Any]:
    """Our painter and their pipeline."""
    made = write(request.param, tmp_path_factory.mktemp(request.param), dtype="fp32")
    family = FAMILIES[request.param]
    loaded = family.load(ModelFiles(model=str(made.folder)), torch.float32)
    process = Process(loaded.prediction, scaled_linear().alphas_cumprod)
    painter = painter_of(loaded, family, process, dtype=torch.float32, device=torch.device("cpu"))
    pipeline = diffusers.DiffusionPipeline.from_pretrained(Path(made.folder), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return painter, pipeline


def prompt(sampler: Sampler, line: str) -> Prompt:
    settings = Sampling(prompts=[line], every_steps=1, sampler=sampler, steps=4)
    return prompts_of(settings, (64, 64))[0]


@pytest.mark.parametrize(
    ("sampler", "line"),
    [
        ("euler", "a cat --n bad --l 5 --w 64 --h 80"),
        ("euler_a", "a red bird --l 1 --d 3"),
        ("dpmpp_2m", "a dog --n low --l 3 --d 4"),
    ],
)
def test_a_picture_is_that_of_the_pipeline(pair: tuple[Painter, Any], sampler: Sampler, line: str) -> None:
    painter, pipeline = pair
    asked = prompt(sampler, line)
    pipeline.scheduler = SCHEDULERS[sampler](**BETAS)
    theirs = pipeline(
        prompt=asked.text,
        negative_prompt=asked.negative or None,
        guidance_scale=asked.guidance,
        num_inference_steps=asked.steps,
        width=asked.width,
        height=asked.height,
        generator=torch.Generator().manual_seed(asked.seed),
        output_type="np",
    ).images[0]
    ours = paint(painter, asked)
    assert ours.is_finite
    assert theirs.std() > 0.01
    assert numpy.abs(ours.pixels.numpy() - theirs * 255).max() <= 0.6


def test_texts_that_were_encoded_ahead_give_the_same_picture(pair: tuple[Painter, Any]) -> None:
    asked = [prompt("ddim", "a cat --n bad --l 5"), prompt("ddim", "a cat --l 1")]
    ahead = encoded_ahead(pair[0], asked)
    for each in asked:
        assert torch.equal(paint(ahead, each).pixels, paint(pair[0], each).pixels)
    with pytest.raises(KeyError):
        paint(ahead, prompt("ddim", "another"))
