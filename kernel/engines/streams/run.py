"""Merges of checkpoints, LoRAs into a checkpoint, and recipes: settings in, one stream out.

Each of the three becomes a graph (graph.py), and the tensors of its output are computed and written one after
the other (stream.py). What is held at a time are some pieces of a tensor, and for the two methods that need
it, smooth_add and re-basin, one whole tensor of each input a thread, however large the models are.
"""

import hashlib
from collections.abc import Iterator

from contract.methods.merge import Bake, CheckpointMerge, MergeOutcome, Recipe
from contract.methods.weights import WeightsFile
from kernel.engines.streams.assembly import SETTINGS, Assembly
from kernel.engines.streams.graph import Node, listed
from kernel.engines.streams.parameters import of_merge, of_step
from kernel.surgery import Surgery
from trainer.weights.metadata import recipe_text


def merge_checkpoints(settings: CheckpointMerge, surgery: Surgery) -> MergeOutcome:
    """Checkpoints into one. Raises InputError, ResourceError and JobCanceled."""
    models = [
        (each.model, f"{SETTINGS}.models[{index}].model.path") for index, each in enumerate(settings.models)
    ]
    assembly = Assembly(models, surgery, dtype=settings.dtype, ema=settings.ema)
    merged = assembly.step(of_merge(settings, assembly.family, SETTINGS), assembly.models)
    return assembly.write(assembly.with_parts(merged, settings.components), recipe_text(settings))


def bake(settings: Bake, surgery: Surgery) -> MergeOutcome:
    """LoRAs into a checkpoint. Raises InputError, ResourceError and JobCanceled."""
    models = [(settings.model, f"{SETTINGS}.model.path")]
    assembly = Assembly(models, surgery, dtype=settings.dtype, ema=settings.ema)
    baked = assembly.bake(assembly.models[0], settings.loras, f"{SETTINGS}.loras")
    return assembly.write(baked, recipe_text(settings))


def run_recipe(settings: Recipe, surgery: Surgery) -> MergeOutcome:
    """A graph of merges; all of its files are hashed. Raises InputError, ResourceError and JobCanceled."""
    models = [(model, f'{SETTINGS}.models["{name}"].path') for name, model in settings.models.items()]
    assembly = Assembly(models, surgery, dtype=settings.dtype, ema=settings.ema)
    nodes: dict[str, Node] = dict(zip(settings.models, assembly.models, strict=True))
    output = _node(settings, settings.output, nodes, assembly)
    if settings.vae_file is not None:
        output = assembly.with_vae(output, settings.vae_file, f"{SETTINGS}.vae_file.path")
    unused = [name for name in (*settings.models, *settings.steps) if name not in _needed(settings)]
    if unused:
        assembly.warnings.append(f"The output does not need {listed(unused)}.")
    hashes = assembly.hashes()
    named = {
        file.path: hashes[surgery.open(file, SETTINGS).path] for file in _files(settings, _needed(settings))
    }
    return assembly.write(output, recipe_text(settings, named))


def _node(settings: Recipe, name: str, nodes: dict[str, Node], assembly: Assembly) -> Node:
    """A node of the recipe, made with those that it needs, each once."""
    if name not in nodes:
        step, where = settings.steps[name], f'{SETTINGS}.steps["{name}"]'
        inputs = [_node(settings, each, nodes, assembly) for each in step.inputs]
        nodes[name] = (
            assembly.bake(inputs[0], step.loras, f"{where}.loras")
            if step.method == "bake"
            else assembly.step(of_step(step, assembly.family, _seed(settings.seed, name), where), inputs)
        )
    return nodes[name]


def _seed(seed: int, step: str) -> int:
    """A seed for each step: two that draw must not draw the same."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{step}".encode()).digest()[:6], "big")


def _needed(settings: Recipe) -> set[str]:
    """The nodes that the output is made of."""
    needed: set[str] = set()
    waiting = [settings.output]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += settings.steps[name].inputs if name in settings.steps else []
    return needed


def _files(settings: Recipe, needed: set[str]) -> Iterator[WeightsFile]:
    """The files that the recipe names: models, and the LoRAs of the steps that are needed."""
    yield from settings.models.values()
    for name, step in settings.steps.items():
        yield from (lora.model for lora in step.loras if name in needed)
    if settings.vae_file is not None:
        yield settings.vae_file
