"""A training once more, in plain torch and from the papers: nothing of it is code of the trainer.

The model is read by diffusers and transformers from its folder. A network is here what its paper says: each
weight W becomes W + α ÷ r · up · down. Names are those of files in the naming of peft.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.func import functional_call
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

Factors = dict[str, torch.Tensor]
Losses = torch.Tensor

#: Where modules of a network are in the U-Net: of LoRA (Hu and others, arXiv 2106.09685) in its transformers,
#: of LoCon (arXiv 2309.14859) in its residual blocks too, and where sizes change, as all trainers have it.
_UNET: Final = {
    "lora": (".attentions.",),
    "locon": (".attentions.", ".resnets.", ".downsamplers.", ".upsamplers."),
}
#: In the text encoders: attention and the perceptron.
_TEXT: Final = (".self_attn.", ".mlp.")


class Seen(NamedTuple):
    """A batch as it was trained on: latents and noise (b, 4, h, w), timesteps (b,), captions, and the six
    numbers of each picture that SDXL is told."""

    latents: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    captions: Sequence[str]
    sizes: Sequence[Sequence[int]]


class Model:
    """A small model from its folder, frozen, in float32."""

    def __init__(self, family: str, folder: Path, scale: float) -> None:
        """`scale` is α ÷ r."""
        self.family = family
        self._scale = scale
        self.unet: Any = UNet2DConditionModel.from_pretrained(folder / "unet", local_files_only=True)
        self.texts: dict[str, Any] = {"text_encoder": _read(CLIPTextModel, folder / "text_encoder")}
        self.tokenizers = {"text_encoder": CLIPTokenizer.from_pretrained(folder / "tokenizer")}
        if family == "sdxl":
            self.texts["text_encoder_2"] = _read(CLIPTextModelWithProjection, folder / "text_encoder_2")
            self.tokenizers["text_encoder_2"] = CLIPTokenizer.from_pretrained(folder / "tokenizer_2")
        for part in (self.unet, *self.texts.values()):
            part.requires_grad_(False).eval()

    def network(self, kind: str, components: Sequence[str], rank: int, seed: int) -> Factors:
        """Random factors of every module that a LoRA or a LoCon has, none of them zero."""
        source = torch.Generator().manual_seed(seed)
        made: Factors = {}
        wanted = {each: _UNET[kind] if each == "unet" else _TEXT for each in components}
        for name, path, weight in (found for each in components for found in self._weights(each)):
            if not any(each in f".{path}" for each in wanted[name.partition(".")[0]]):
                continue
            ones = (1,) * (weight.dim() - 2)
            made[f"{name}.lora_A.weight"] = 0.1 * torch.randn(rank, *weight.shape[1:], generator=source)
            made[f"{name}.lora_B.weight"] = 0.02 * torch.randn(weight.shape[0], rank, *ones, generator=source)
        return made

    def says(self, noisy: torch.Tensor, seen: Seen, factors: Factors) -> torch.Tensor:
        """What the U-Net with the network says of noisy latents."""
        hidden, pooled = self._encoded(seen.captions, factors)
        beside = None
        if pooled is not None:
            beside = {"text_embeds": pooled, "time_ids": torch.tensor(seen.sizes, dtype=torch.float32)}
        said: torch.Tensor = self._changed(
            "unet",
            factors,
            (noisy, seen.timesteps),
            encoder_hidden_states=hidden,
            added_cond_kwargs=beside,
            return_dict=False,
        )[0]
        return said

    def _encoded(self, captions: Sequence[str], factors: Factors) -> tuple[torch.Tensor, torch.Tensor | None]:
        """SD1.5: the last layer through the final norm. SDXL: both encoders' layers before the last, side by
        side, and the pooled text of the second (Podell and others, arXiv 2307.01952, section 2.1)."""
        outputs = [
            self._changed(
                part,
                factors,
                (
                    tokenizer(
                        list(captions),
                        padding="max_length",
                        max_length=77,
                        truncation=True,
                        return_tensors="pt",
                    ).input_ids,
                ),
                output_hidden_states=True,
            )
            for part, tokenizer in self.tokenizers.items()
        ]
        if self.family == "sd15":
            return outputs[0].last_hidden_state, None
        return torch.cat([each.hidden_states[-2] for each in outputs], dim=-1), outputs[1].text_embeds

    def _changed(self, part: str, factors: Factors, arguments: tuple[Any, ...], **named: Any) -> Any:
        """A part with W + up·down for every W that has factors."""
        model = self._part(part)
        weights: dict[str, torch.Tensor] = dict(model.named_parameters())
        for name, path, weight in self._weights(part):
            if f"{name}.lora_A.weight" in factors:
                up, down = factors[f"{name}.lora_B.weight"], factors[f"{name}.lora_A.weight"]
                delta = (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
                weights[f"{path}.weight"] = weight + self._scale * delta
        return functional_call(model, weights, arguments, named)

    def _weights(self, component: str) -> Iterator[tuple[str, str, torch.Tensor]]:
        """The name of each module in files, its path in its part, and its weight."""
        for path, module in self._part(component).named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                # CLIPTextModel lost this level in transformers 5.6; files have it.
                level = "" if component == "unet" or path.startswith("text_model.") else "text_model."
                yield f"{component}.{level}{path}", path, module.weight

    def _part(self, component: str) -> Any:
        return self.unet if component == "unet" else self.texts[component]


def _read(kind: Any, folder: Path) -> Any:
    return kind.from_pretrained(folder, local_files_only=True)


def kept(timesteps: torch.Tensor, *, zero_snr: bool) -> torch.Tensor:
    """ᾱ of some timesteps, float64 (b, 1, 1, 1): β from 0.00085 to 0.012, linear in its root (Rombach and
    others, CVPR 2022); with zero terminal SNR after algorithm 1 of Lin and others, arXiv 2305.08891."""
    roots, product = [], 1.0
    for t in range(1000):
        product *= 1 - (math.sqrt(0.00085) + t / 999 * (math.sqrt(0.012) - math.sqrt(0.00085))) ** 2
        roots.append(math.sqrt(product))
    if zero_snr:
        first, last = roots[0], roots[-1]
        roots = [(each - last) * first / (first - last) for each in roots]
    return torch.tensor([roots[t] ** 2 for t in timesteps.tolist()], dtype=torch.float64).reshape(-1, 1, 1, 1)


class Objective(NamedTuple):
    """`weighting` is "none" or "min_snr" with γ = 5 (Hang and others, ICCV 2023), `loss` "l2" or "huber" with
    δ = (1 − 0.1) / (1 + σ)² + 0.1 (Khrapov and others, arXiv 2403.16728)."""

    prediction: str
    weighting: str
    loss: str
    zero_snr: bool = False

    def losses(self, model: Model, seen: Seen, factors: Factors) -> Losses:
        """Of each picture of a batch, (b,)."""
        left = kept(seen.timesteps, zero_snr=self.zero_snr)
        a, b = left.sqrt().float(), (1 - left).sqrt().float()
        noisy = a * seen.latents + b * seen.noise
        target = seen.noise if self.prediction == "epsilon" else a * seen.noise - b * seen.latents
        error = model.says(noisy, seen, factors) - target
        snr = left / (1 - left)
        costs = error**2
        if self.loss == "huber":
            delta = (0.9 / (1 + snr.rsqrt()) ** 2 + 0.1).float()
            costs = 2 * delta * ((error**2 + delta**2).sqrt() - delta)
        return costs.mean((1, 2, 3)) * self._weights(snr).flatten().float()

    def _weights(self, snr: torch.Tensor) -> torch.Tensor:
        if self.weighting == "none":
            return torch.ones_like(snr)
        return snr.clamp(max=5) / (snr if self.prediction == "epsilon" else snr + 1)


class AdamW:
    """Loshchilov and Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101, algorithm 2, with the
    gradients of all parameters together no longer than `longest` (Pascanu and others, arXiv 1211.5063)."""

    def __init__(self, rates: Mapping[str, float], *, decay: float, epsilon: float, longest: float) -> None:
        """`rates` are by component."""
        self._rates, self._decay, self._epsilon, self._longest = rates, decay, epsilon, longest
        self._first: Factors = {}
        self._second: Factors = {}
        self._steps = 0

    def step(self, factors: Factors, gradients: Factors, share: float) -> Factors:
        """The factors after it, at that share of the rates; β = 0.9 and 0.99."""
        self._steps += 1
        length = math.sqrt(sum(float((each.double() ** 2).sum()) for each in gradients.values()))
        by = min(1.0, self._longest / (length + 1e-6))
        # What nothing depends on has no gradient, and is not decayed either.
        moved = dict(factors)
        for name, gradient in gradients.items():
            gradient, value = gradient * by, factors[name]
            self._first[name] = 0.9 * self._first.get(name, torch.zeros(())) + 0.1 * gradient
            self._second[name] = 0.99 * self._second.get(name, torch.zeros(())) + 0.01 * gradient**2
            first = self._first[name] / (1 - 0.9**self._steps)
            second = self._second[name] / (1 - 0.99**self._steps)
            rate = self._rates[name.partition(".")[0]] * share
            moved[name] = value * (1 - rate * self._decay) - rate * first / (second.sqrt() + self._epsilon)
        return moved


def gradients(model: Model, objective: Objective, batches: Sequence[Seen], factors: Factors) -> Factors:
    """Of the mean loss over all pictures of some batches."""
    leaves = {name: value.clone().requires_grad_(True) for name, value in factors.items()}
    every = torch.cat([objective.losses(model, seen, leaves) for seen in batches])
    every.mean().backward()  # type: ignore[no-untyped-call]
    return {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
