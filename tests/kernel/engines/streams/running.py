"""Runs merges on small checkpoints in a folder, as a job does."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from contract.methods.merge import CheckpointMerge, MergeOutcome, WeightedModel
from contract.methods.weights import FileOutput, WeightsFile
from kernel.engines.streams.run import merge_checkpoints
from kernel.jobs import Job
from kernel.roots import Roots
from kernel.surgery import Surgery
from kernel.writer import Writer

Tensors = dict[str, torch.Tensor]


def job(folder: Path) -> Job:
    """A job that may use the folder and says nothing."""
    return Job(
        job_id="a",
        attempt=1,
        method="merge",
        digest="0",
        roots=Roots([str(folder)]),
        writer=Writer(-1, lost=lambda: None, broken=lambda: None),
        progress_hz=10,
    )


def run(
    engine: Callable[[Any, Surgery], MergeOutcome], settings: Any, folder: Path, output: str = "out"
) -> tuple[MergeOutcome, Tensors]:
    """The outcome, and the tensors of the output."""
    path = folder / f"{output}.safetensors"
    with Surgery(job(folder), FileOutput(file=str(path))) as surgery:
        outcome = engine(settings, surgery)
    assert outcome.file == str(path) and outcome.bytes == path.stat().st_size
    return outcome, load_file(path)


def merge(folder: Path, models: Mapping[str, float], **settings: Any) -> tuple[MergeOutcome, Tensors]:
    """Merge the files of the folder with these names and weights."""
    output = settings.pop("output", "out")
    return run(merge_checkpoints, checkpoints(folder, models, **settings), folder, output)


def checkpoints(folder: Path, models: Mapping[str, float], **settings: Any) -> CheckpointMerge:
    """The settings of that."""
    weighted = [
        WeightedModel(model=file(folder, name), weight=weight, blocks=settings.pop(f"blocks_{name}", None))
        for name, weight in models.items()
    ]
    return CheckpointMerge(models=weighted, **settings)


def file(folder: Path, name: str) -> WeightsFile:
    """A file of the folder, by its name without its ending."""
    return WeightsFile(path=str(folder / f"{name}.safetensors"))
