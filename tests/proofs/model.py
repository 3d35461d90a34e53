"""A small model, run by diffusers: what it computes as it is, with LoRAs, and as another checkpoint.

The pipeline is made once. An `Output` is what each part gives for one fixed text, noise and step: the text
encoders their hidden states, the U-Net its prediction under those. Float32 throughout.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import diffusers
import peft
import torch

from trainer.fixtures import FAMILIES, Fixture
from trainer.weights.names import Site, Sites, sites
from trainer.weights.tensor_file import open_weights

#: By part: unet, text_encoder, text_encoder_2.
Output = Mapping[str, torch.Tensor]
#: A LoRA's file and its weight, one for all or by part.
Loaded = tuple[Path, float | Mapping[str, float]]

_TEXT: Final = "a photo of a cat"
_STEP: Final = 600
#: Height, width, top, left, height, width: the size that SDXL is told.
_SIZES: Final = (64.0, 64.0, 0.0, 0.0, 64.0, 64.0)


class Model:
    """A small model of a family; `file` is its checkpoint."""

    def __init__(self, fixture: Fixture) -> None:
        self.family = fixture.family
        self.file = fixture.file
        self._folder = fixture.folder
        self._kind = getattr(diffusers, FAMILIES[fixture.family].pipeline)
        self._pipeline = self._kind.from_pretrained(fixture.folder, local_files_only=True)

    @cached_property
    def sites(self) -> Sites:
        with open_weights(str(self.file)) as file:
            shapes = {name: tensor.shape for name, tensor in file.header.tensors.items()}
        return sites(self.family, shapes)

    @property
    def parts(self) -> list[str]:
        """What it can be compared by."""
        return [name for name in ("unet", "text_encoder", "text_encoder_2") if name in self.own]

    @cached_property
    def own(self) -> Output:
        """What it computes as it is."""
        return self.now()

    def now(self) -> Output:
        """What it computes at this moment."""
        return _computed(self._pipeline)

    def trained(self, *kinds: str) -> list[Site]:
        """The places of these kinds that a LoRA in kohya's names can have."""
        return [site for site in self.sites.all if site.kind in kinds and site.kohya is not None]

    def with_loras(self, *loras: Loaded) -> Output:
        """What it computes with LoRAs, which diffusers reads from their files. It only logs what it leaves
        out: hold the output against something, and see that it moved."""
        names = [f"lora_{index}" for index in range(len(loras))]
        try:
            for name, (file, _) in zip(names, loras, strict=True):
                with _peft_says_that_there_are_several():
                    self._pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name=name)
            weights = [weight if isinstance(weight, float) else dict(weight) for _, weight in loras]
            self._pipeline.set_adapters(names, weights)
            return self.now()
        finally:
            self._pipeline.unload_lora_weights()

    def as_checkpoint(self, file: Path) -> Output:
        """What a checkpoint of its architecture computes, which diffusers reads from its single file."""
        return _computed(self.opened(file))

    def opened(self, file: Path) -> Any:
        """The pipeline of a checkpoint of its architecture."""
        return self._kind.from_single_file(
            str(file), config=str(self._folder), local_files_only=True, torch_dtype=torch.float32
        )

    def with_dora(self, tensors: Mapping[str, torch.Tensor], places: Sequence[Site], rank: int) -> Output:
        """What it computes with a DoRA in its U-Net as peft computes it, since diffusers reads none for these
        families. `tensors` are in kohya's names, alpha is the rank."""
        pipeline = self.opened(self.file)
        paths = {str(site.kohya): str(site.peft).removeprefix("unet.") for site in places}
        config = peft.LoraConfig(r=rank, lora_alpha=rank, use_dora=True, target_modules=list(paths.values()))
        pipeline.unet.add_adapter(config, adapter_name="dora")
        for name, path in paths.items():
            layer = pipeline.unet.get_submodule(path)
            layer.lora_A["dora"].weight.data = tensors[f"{name}.lora_down.weight"]
            layer.lora_B["dora"].weight.data = tensors[f"{name}.lora_up.weight"]
            layer.lora_magnitude_vector["dora"].weight.data = tensors[f"{name}.dora_scale"].flatten()
        return _computed(pipeline)

    def as_averaged(self, files: Sequence[tuple[Path, float]]) -> Output:
        """What the sum of whole models computes, each weight times its own, added up part by part in
        diffusers' own layout."""
        pipelines = [(self.opened(file), weight) for file, weight in files]
        first = pipelines[0][0]
        for part in self.parts:
            states = [(getattr(pipeline, part).state_dict(), weight) for pipeline, weight in pipelines]
            summed = {key: sum(state[key] * weight for state, weight in states) for key in states[0][0]}
            getattr(first, part).load_state_dict(summed)
        return _computed(first)


def moved(model: Model, output: Output, least: float = 0.01) -> bool:
    """Whether every part gives something else than without a LoRA."""
    return all(_norm(output[part] - own) > least * _norm(own) for part, own in model.own.items())


def distance(model: Model, found: Output, wanted: Output) -> float:
    """How far `found` is from `wanted`, as a share of how far `wanted` is from the model without a LoRA: that
    of the part where it is largest."""
    return max(
        _norm(found[part] - wanted[part]) / _norm(wanted[part] - model.own[part]) for part in model.parts
    )


def apart(found: Output, wanted: Output) -> float:
    """The same as a share of what is wanted itself."""
    return max(_norm(found[part] - wanted[part]) / _norm(wanted[part]) for part in wanted)


@torch.no_grad()
def _computed(pipeline: Any) -> dict[str, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 8, 8, generator=source)
    texts = [_text(pipeline, suffix) for suffix in ("", "_2") if hasattr(pipeline, f"text_encoder{suffix}")]
    hidden = torch.cat([each.hidden_states[-2 if len(texts) > 1 else -1] for each in texts], -1)
    more: dict[str, Any] = {}
    if len(texts) > 1:
        more["added_cond_kwargs"] = {
            "text_embeds": texts[1].text_embeds,
            "time_ids": torch.tensor([_SIZES]),
        }
    output = {f"text_encoder{'_2' * index}": each[0] for index, each in enumerate(texts)}
    return output | {"unet": pipeline.unet(latents, _STEP, hidden, **more).sample}


def _text(pipeline: Any, suffix: str) -> Any:
    tokenizer, encoder = getattr(pipeline, f"tokenizer{suffix}"), getattr(pipeline, f"text_encoder{suffix}")
    tokens = tokenizer(_TEXT, padding="max_length", max_length=77, return_tensors="pt").input_ids
    return encoder(tokens, output_hidden_states=True)


def _norm(tensor: torch.Tensor) -> float:
    return float(tensor.double().norm())


@contextmanager
def _peft_says_that_there_are_several() -> Iterator[None]:
    """It warns of a second adapter on a model, which is what is wanted."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
        yield
