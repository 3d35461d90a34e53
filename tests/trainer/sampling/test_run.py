"""Samples of a small model: fixed by their seeds, guided, written whole, and named."""

import errno
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from contract.errors import DiskFull, FileUnwritable, InvalidParams, JobCanceled
from contract.methods.training.sampling import Sampling
from trainer.objective.noise_schedule import scaled_linear
from trainer.sampling.painter import Painter, paint
from trainer.sampling.process import Process
from trainer.sampling.prompts import Prompt, prompts_of
from trainer.sampling.run import PARAMETERS, RECIPE, Sample, make_samples, sample_name


class Model:
    """Says of latents what depends on its text, and paints with the first three channels."""

    def __init__(self) -> None:
        self.encoded: list[list[str]] = []
        self.asked: list[tuple[torch.Size, list[float]]] = []
        self.gain = 1.0

    def encode(self, texts: list[str], prompt: Prompt) -> torch.Tensor:
        self.encoded.append(texts)
        return torch.tensor([len(text) / 10 for text in texts]).reshape(-1, 1, 1, 1)

    def predict(self, x: torch.Tensor, t: torch.Tensor, conditions: Any, prompt: Prompt) -> torch.Tensor:
        self.asked.append((x.shape, t.tolist()))
        assert x.dtype == t.dtype == torch.float32
        said: torch.Tensor = self.gain * (torch.tanh(x) + conditions - 0.5)
        return said

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.tanh(latents[:, :3] / 20).repeat_interleave(8, 2).repeat_interleave(8, 3)

    @property
    def painter(self) -> Painter:
        process = Process("epsilon", scaled_linear().alphas_cumprod)
        return Painter(process, 4, 8, torch.device("cpu"), self.encode, self.predict, self.decode)


def prompts(*lines: str, **settings: Any) -> list[Prompt]:
    asked = Sampling(prompts=list(lines), every_steps=1, steps=4, **settings)
    return prompts_of(asked, (24, 16))


def test_a_picture_is_fixed_by_its_prompt_and_touches_no_other_source() -> None:
    (one, two, three) = prompts("a --d 1", "a --d 1", "a --d 2", negative="bad", sampler="euler_a")
    before = _states()
    pictures = [paint(Model().painter, each).pixels for each in (one, two, three)]
    assert pictures[0].shape == (16, 24, 3)
    assert torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[0], pictures[2])
    assert len(set(pictures[0].flatten().tolist())) > 10
    assert _states() == before


def _states() -> list[Any]:
    numbers = numpy.random.get_state(legacy=False)["state"]
    return [random.getstate(), numbers["key"].tolist(), numbers["pos"], torch.get_rng_state().tolist()]


def test_guidance_asks_both_prompts_and_one_is_enough_without() -> None:
    model = Model()
    (guided, plain) = prompts("a cat --l 3", "a cat --l 1 --n bad", negative="no", sampler="ddim")
    paint(model.painter, guided)
    assert model.encoded == [["no", "a cat"]]
    assert model.asked[0] == (torch.Size([2, 4, 2, 3]), [751.0, 751.0])
    assert len(model.asked) == 4
    model = Model()
    paint(model.painter, plain)
    assert model.encoded == [["a cat"]]
    assert model.asked[0] == (torch.Size([1, 4, 2, 3]), [751.0])


def test_guidance_goes_beyond_what_the_prompt_says() -> None:
    """This model says the same of all latents, but for what its text adds: u + g·(c − u) of texts u and c is
    what it says of a text as long as that."""
    guided, plain = prompts("12345 --l 3 --d 5", "123456789 --l 1 --d 5", negative="123", sampler="ddim")
    one, other = (paint(Model().painter, each).pixels.int() for each in (guided, plain))
    assert 0 < one.float().mean() < 255
    assert (one - other).abs().max() <= 1


def test_numbers_that_are_none_are_told_and_black() -> None:
    model = Model()
    (prompt,) = prompts("a --l 1")
    assert paint(model.painter, prompt).is_finite
    model.gain = float("nan")
    picture = paint(model.painter, prompt)
    assert not picture.is_finite
    assert picture.pixels.max() == 0


def test_a_sampler_that_does_not_fit_is_refused_before_any_work() -> None:
    model = Model()
    (prompt,) = prompts("a --ss euler_a")
    with pytest.raises(InvalidParams):
        paint(model.painter._replace(process=Process("flow")), prompt)
    assert model.encoded == []


def test_samples_are_named_told_and_say_what_they_are_of(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "samples"
    told: list[Sample] = []
    asked = prompts("a cat", "ein Ärger 🎨, x: y --n schlecht --w 64 --d 9 --l 2.5", sampler="dpmpp_2m")
    samples = make_samples(Model().painter, asked, str(folder), 120, told=told.append)
    assert samples == told
    assert [(each.step, each.prompt_index, each.seed) for each in samples] == [(120, 0, 42), (120, 1, 9)]
    assert [(each.width, each.height) for each in samples] == [(24, 16), (64, 16)]
    assert sorted(os.listdir(folder)) == ["step-00000120-prompt-000.png", "step-00000120-prompt-001.png"]
    assert samples[1].path == str(folder / sample_name(120, 1))
    assert samples[1].bytes == os.path.getsize(samples[1].path)
    with Image.open(samples[1].path) as picture:
        assert picture.size == (64, 16)
        texts = picture.text  # type: ignore[attr-defined]
        expected = paint(Model().painter, asked[1]).pixels
        assert torch.equal(torch.from_numpy(numpy.array(picture)), expected)
    assert texts[PARAMETERS] == (
        "ein Ärger 🎨, x: y\nNegative prompt: schlecht\n"
        "Steps: 4, Sampler: DPM++ 2M, CFG scale: 2.5, Seed: 9, Size: 64x16"
    )
    recipe = json.loads(texts[RECIPE])
    assert (recipe["training_step"], recipe["text"]) == (120, "ein Ärger 🎨, x: y")
    assert (recipe["sampler"], recipe["guidance"]) == ("dpmpp_2m", 2.5)


def test_the_same_samples_again_are_the_same_files(tmp_path: Path) -> None:
    asked = prompts("a cat", "a dog")
    contents = []
    for _ in range(2):
        samples = make_samples(Model().painter, asked, str(tmp_path), 0)
        contents.append([Path(each.path).read_bytes() for each in samples])
    assert contents[0] == contents[1]
    assert len(os.listdir(tmp_path)) == 2


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_is_told_and_leaves_the_old_file(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = make_samples(Model().painter, prompts("a"), str(tmp_path), 3)
    before = Path(first.path).read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(DiskFull):
            make_samples(Model().painter, prompts("another"), str(tmp_path), 3)
    assert os.listdir(tmp_path) == [sample_name(3, 0)]
    assert Path(first.path).read_bytes() == before


def _canceling(after: int) -> Callable[[], None]:
    steps = iter(range(after))

    def checked() -> None:
        if next(steps, None) is None:
            raise JobCanceled("stopped")

    return checked


def test_a_canceled_run_keeps_what_was_whole(tmp_path: Path) -> None:
    with pytest.raises(JobCanceled):
        make_samples(Model().painter, prompts("a", "b"), str(tmp_path), 3, checked=_canceling(6))
    assert os.listdir(tmp_path) == [sample_name(3, 0)]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileUnwritable):
        make_samples(Model().painter, prompts("a"), str(tmp_path / "file"), 3)
    with pytest.raises(FileUnwritable):
        make_samples(Model().painter, prompts("a"), str(tmp_path / "file" / "x"), 3)
    (tmp_path / sample_name(3, 0)).mkdir()
    with pytest.raises(FileUnwritable):
        make_samples(Model().painter, prompts("a"), str(tmp_path), 3)
    assert sorted(os.listdir(tmp_path)) == ["file", sample_name(3, 0)]
