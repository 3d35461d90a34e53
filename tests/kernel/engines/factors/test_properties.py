"""What holds for LoRAs of any shapes, ranks, alphas, weights and types."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from hypothesis import given, settings, strategies
from safetensors.torch import load_file

from contract.methods.resize import ResizeParams, ResizeSettings
from contract.methods.weights import FileInput, FileOutput
from kernel.engines.factors.resize import resize
from tests.builders import adapters
from tests.builders.adapters import Tensors
from tests.builders.surgery import surgery
from tests.kernel.engines.factors.merges import CONV, LINEAR, OTHER, POINT, TEXT, merge

_NAMES = (LINEAR, OTHER, POINT, CONV, TEXT)
_sizes = strategies.integers(1, 24)
_numbers = strategies.sampled_from((torch.float32, torch.float16, torch.bfloat16))
_alphas = strategies.none() | strategies.sampled_from((0.25, 1.0, 3.0, 16.0, -2.0))
_weights = strategies.sampled_from((-1.5, -0.25, 0.1, 0.5, 1.0, 2.0))


@strategies.composite
def _shapes(draw: strategies.DrawFn) -> dict[str, tuple[int, ...]]:
    """Some modules, and the shapes of their weights."""
    kernels: dict[str, tuple[int, ...]] = {
        POINT: (1, 1),
        CONV: draw(strategies.sampled_from(((3, 3), (1, 3)))),
    }
    chosen = draw(strategies.lists(strategies.sampled_from(_NAMES), min_size=1, max_size=3, unique=True))
    # The width of the text tells the family.
    fixed = {LINEAR: 64, OTHER: 32, TEXT: 24}
    return {name: (draw(_sizes), fixed.get(name, draw(_sizes)), *kernels.get(name, ())) for name in chosen}


def _lora(draw: strategies.DrawFn, shapes: dict[str, tuple[int, ...]]) -> Tensors:
    tensors: Tensors = {}
    for name, shape in shapes.items():
        rank, alpha, dtype = draw(strategies.integers(1, 10)), draw(_alphas), draw(_numbers)
        spectrum = draw(strategies.sampled_from(("random", "decaying", "zero")))
        seed = draw(strategies.integers(0, 1000))
        tensors |= adapters.lora(name, shape, rank, alpha=alpha, dtype=dtype, spectrum=spectrum, seed=seed)  # type: ignore[arg-type]
    return tensors


@strategies.composite
def _one(draw: strategies.DrawFn) -> Tensors:
    return _lora(draw, draw(_shapes()))


@strategies.composite
def _several(draw: strategies.DrawFn) -> tuple[dict[str, tuple[int, ...]], list[tuple[Tensors, float]]]:
    """Of the same model; each has some of its modules."""
    shapes = draw(_shapes())
    loras = []
    for _ in range(draw(strategies.integers(1, 3))):
        some = draw(strategies.sets(strategies.sampled_from(list(shapes)), min_size=1))
        loras.append((_lora(draw, {name: shapes[name] for name in shapes if name in some}), draw(_weights)))
    return shapes, loras


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder).resolve()


def _is(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return float((found - wanted).norm()) <= 1e-6 * float(wanted.norm())


@settings(max_examples=40, deadline=None)
@given(_one())
def test_the_same_rank_is_the_same_difference(tensors: Tensors) -> None:
    with _folder() as folder:
        source = adapters.write(folder / "in.safetensors", tensors)
        params = ResizeParams(
            job_id="a",
            inputs=FileInput(file=str(source)),
            outputs=FileOutput(file=str(folder / "out.safetensors")),
            settings=ResizeSettings(rank=10, dtype="fp32"),
        )
        with surgery(folder) as job:
            outcome = resize(params, job)
        found = load_file(folder / "out.safetensors")
    assert outcome.error <= 1e-6
    for name in adapters.modules_of(tensors):
        assert _is(adapters.dense(found, name), adapters.dense(tensors, name)), name


def _sum(loras: list[tuple[Tensors, float]], name: str, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.stack(
        [torch.zeros(shape, dtype=torch.float64)]
        + [
            weight * adapters.dense(tensors, name, shape)
            for tensors, weight in loras
            if name in adapters.modules_of(tensors)
        ]
    ).sum(dim=0)


def _scale(loras: list[tuple[Tensors, float]], name: str, shape: tuple[int, ...]) -> float:
    """The norm of the parts: where they cancel out, the sum is smaller than what its rounding is of."""
    return sum(float(_sum([each], name, shape).norm()) for each in loras)


@settings(max_examples=40, deadline=None)
@given(_several())
def test_concat_and_svd_of_all_ranks_are_the_sum(
    drawn: tuple[dict[str, tuple[int, ...]], list[tuple[Tensors, float]]],
) -> None:
    shapes, loras = drawn
    with _folder() as folder:
        merged = [
            merge(folder, loras, "concat", dtype="fp32"),
            merge(folder, loras, "svd", rank=256, dtype="fp32"),
        ]
    names = {name for tensors, _ in loras for name in adapters.modules_of(tensors)}
    for made in merged:
        assert set(adapters.modules_of(made.tensors)) == names
        for name in names:
            wanted = _sum(loras, name, shapes[name])
            far = float((made.delta(name) - wanted).norm())
            assert far <= 1e-6 * _scale(loras, name, shapes[name]), name
