"""What is encoded before the first step."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.run import runs
from trainer.run.encoded import Data, encode_all, planned
from trainer.run.frozen import pictures_now
from trainer.run.numbers import numbers_of
from trainer.run.parts import Parts, base_of
from trainer.run.preflight import known_of
from trainer.run.request import Request


class Encoding:
    """A run up to its first step."""

    def __init__(self, asked: Request, files: ExitStack) -> None:
        self.steps: list[tuple[str, int, int]] = []
        self.known = known_of(asked)
        self.pictures = pictures_now(asked, lambda done, total: None)
        base = base_of(self.known.family, self.known.files, self.known.recognised, asked.settings)
        self.parts = Parts(base, numbers_of(asked.settings), lambda what: None)
        self.data: Data = encode_all(
            asked, self.known, self.pictures, self.parts, files, lambda *step: self.steps.append(step)
        )

    def example(self, number: int = 0) -> Any:
        return self.data.examples.load(self.data.sampler.at(number))


@pytest.fixture
def files() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_everything_is_encoded_once(
    bases: Mapping[str, Path], family: str, source: Path, tmp_path: Path, files: ExitStack
) -> None:
    asked = runs.request(bases[family], source, tmp_path)
    cold = Encoding(asked, files)
    assert [step for step in cold.steps if step[0] == "latents"] == [
        ("latents", done, 4) for done in range(1, 5)
    ]
    assert cold.steps[-1] == ("text", 4, 4)
    warm = Encoding(asked, files)
    assert warm.steps == []
    assert not warm.parts.is_loaded("vae")
    assert not warm.parts.is_loaded("text")
    first, again = cold.example(), warm.example()
    assert torch.equal(first.latents, again.latents)
    assert all(torch.equal(each, again.conditions[name]) for name, each in first.conditions.items())


def test_prompts_are_encoded_with_the_captions(
    bases: Mapping[str, Path], source: Path, tmp_path: Path, files: ExitStack
) -> None:
    sampling = {"prompts": ["a fish --n mud"], "every_steps": 1}
    data = Encoding(runs.request(bases["sd15"], source, tmp_path, sampling=sampling), files).data
    assert data.texts is not None
    cache, keys = data.texts
    assert [keys.of(text) in cache for text in ("a fish", "mud", "fog")] == [True, True, False]


def test_what_is_not_cached_is_loaded_as_it_is(
    bases: Mapping[str, Path], source: Path, tmp_path: Path, files: ExitStack
) -> None:
    caching = {"latents": "off", "text": "off"}
    encoding = Encoding(runs.request(bases["sd15"], source, tmp_path, caching=caching), files)
    example = encoding.example()
    assert (encoding.steps, encoding.data.texts) == ([], None)
    assert example.latents is None
    assert example.conditions is None
    assert example.pixels is not None
    assert example.captions[0].startswith("a cat, number ")


def test_pictures_that_cannot_be_decoded_are_no_part_of_the_epochs(
    bases: Mapping[str, Path], source: Path, tmp_path: Path, files: ExitStack
) -> None:
    path = source / "2_cat/3.png"
    path.write_bytes(path.read_bytes()[:-300])
    tables: dict[str, Any] = {
        "data": {"bad_images": "skip"},
        "training": {"steps": None, "epochs": 2},
    }
    encoding = Encoding(runs.request(bases["sd15"], source, tmp_path, **tables), files)
    assert [Path(each.path).name for each in encoding.data.collection.skipped] == ["3.png"]
    assert (len(encoding.data.plan.pictures), encoding.data.total) == (3, 12)


def test_a_plan_is_what_is_trained(
    bases: Mapping[str, Path], source: Path, tmp_path: Path, files: ExitStack
) -> None:
    asked = runs.request(bases["sd15"], source, tmp_path, training={"steps": 7, "accumulation": 3})
    encoding = Encoding(asked, files)
    shown = encoding.data.shown(asked.settings)
    assert planned(asked, encoding.known, encoding.pictures) == shown
    assert (shown.pictures, shown.samples, shown.steps, shown.total_steps) == (4, 8, 3, 7)
