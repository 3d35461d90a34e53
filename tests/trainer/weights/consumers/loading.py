"""Small models of every family, and what diffusers really makes of an adapter for them."""

import random
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType
from typing import Any, Final, Literal, NamedTuple

import diffusers
import torch
from diffusers.loaders import lora_conversion_utils, lora_pipeline
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from trainer.weights.names import Site, Sites, published

#: What became of a module: ΔW as it is to be, another one, or none.
Fate = Literal["right", "wrong", "none"]
Tensors = dict[str, torch.Tensor]
#: A module's name in the file; None for sites that are to have none.
Name = Callable[[Site], str | None]
PAIRS: Final = {
    "kohya": (".lora_down.weight", ".lora_up.weight"),
    "peft": (".lora_A.weight", ".lora_B.weight"),
    "generic": (".lora_A.weight", ".lora_B.weight"),
    "old": (".lora.down.weight", ".lora.up.weight"),
}
_RANK: Final = 4


class Host(NamedTuple):
    """A pipeline and the models in it, by what their modules begin with in diffusers."""

    pipeline: Any
    models: dict[str, torch.nn.Module]

    def module(self, name: str) -> Any:
        """The module of this name in diffusers; None where there is no such layer."""
        model, _, path = name.partition(".")
        for each in (path, path.removeprefix("text_model.")):
            try:
                found = self.models[model].get_submodule(each)
            except (AttributeError, KeyError):
                continue
            if isinstance(getattr(found, "base_layer", found), torch.nn.Linear | torch.nn.Conv2d):
                return found
        return None


class File(NamedTuple):
    """An adapter: its tensors, and for each of its modules the ΔW that diffusers' modules are to get."""

    tensors: Tensors
    wanted: dict[str, dict[str, torch.Tensor]]


def _clip(*, projection: bool = False) -> torch.nn.Module:
    config = CLIPTextConfig(
        vocab_size=64, hidden_size=16, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=8, projection_dim=16, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    model: torch.nn.Module = (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)
    return model


def _unet(**config: Any) -> torch.nn.Module:
    model: torch.nn.Module = diffusers.UNet2DConditionModel(
        sample_size=8, layers_per_block=2, norm_num_groups=8, cross_attention_dim=16, **config
    )
    return model


def _sd15() -> Host:
    cross = ("CrossAttnDownBlock2D",) * 3, ("CrossAttnUpBlock2D",) * 3
    unet = _unet(
        down_block_types=(*cross[0], "DownBlock2D"),
        up_block_types=("UpBlock2D", *cross[1]),
        block_out_channels=(8, 8, 16, 16),
        attention_head_dim=4,
    )
    pipeline = diffusers.StableDiffusionPipeline(
        vae=None, text_encoder=_clip(), tokenizer=None, unet=unet, scheduler=None, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    return Host(pipeline, {"unet": unet, "text_encoder": pipeline.text_encoder})


def _sdxl() -> Host:
    unet = _unet(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 8, 16),
        attention_head_dim=(2, 2, 4),
        transformer_layers_per_block=(1, 1, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=64,
    )
    pipeline = diffusers.StableDiffusionXLPipeline(
        vae=None, text_encoder=_clip(), text_encoder_2=_clip(projection=True), tokenizer=None,
        tokenizer_2=None, unet=unet, scheduler=None,
    )  # fmt: skip
    encoders = {"text_encoder": pipeline.text_encoder, "text_encoder_2": pipeline.text_encoder_2}
    return Host(pipeline, {"unet": unet, **encoders})


def _sd3() -> Host:
    model = diffusers.SD3Transformer2DModel(
        sample_size=8, num_layers=2, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=16,
        caption_projection_dim=16, pooled_projection_dim=32, pos_embed_max_size=8, dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )  # fmt: skip
    pipeline = diffusers.StableDiffusion3Pipeline(
        transformer=model, scheduler=None, vae=None, text_encoder=_clip(projection=True), tokenizer=None,
        text_encoder_2=_clip(projection=True), tokenizer_2=None, text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip
    encoders = {"text_encoder": pipeline.text_encoder, "text_encoder_2": pipeline.text_encoder_2}
    return Host(pipeline, {"transformer": model, **encoders})


def _flux1() -> Host:
    model = diffusers.FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=16, guidance_embeds=True,
    )  # fmt: skip
    pipeline = diffusers.FluxPipeline(
        scheduler=None, vae=None, text_encoder=_clip(), tokenizer=None, text_encoder_2=None, tokenizer_2=None,
        transformer=model,
    )  # fmt: skip
    return Host(pipeline, {"transformer": model, "text_encoder": pipeline.text_encoder})


def _chroma() -> Host:
    model = diffusers.ChromaTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, approximator_num_channels=16, approximator_hidden_dim=16,
        approximator_layers=1,
    )  # fmt: skip
    pipeline = diffusers.ChromaPipeline(
        scheduler=None, vae=None, text_encoder=None, tokenizer=None, transformer=model
    )
    return Host(pipeline, {"transformer": model})


def _flux2() -> Host:
    model = diffusers.Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4),
    )  # fmt: skip
    pipeline = diffusers.Flux2Pipeline(
        scheduler=None, vae=None, text_encoder=None, tokenizer=None, transformer=model
    )
    return Host(pipeline, {"transformer": model})


def _lumina2() -> Host:
    model = diffusers.Lumina2Transformer2DModel(
        sample_size=8, hidden_size=32, num_layers=1, num_refiner_layers=1, num_attention_heads=4,
        num_kv_heads=2, multiple_of=16, axes_dim_rope=(2, 2, 4), axes_lens=(8, 8, 8), cap_feat_dim=16,
    )  # fmt: skip
    pipeline = diffusers.Lumina2Pipeline(
        transformer=model, scheduler=None, vae=None, text_encoder=None, tokenizer=None
    )
    return Host(pipeline, {"transformer": model})


def _qwen_image() -> Host:
    model = diffusers.QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    pipeline = diffusers.QwenImagePipeline(
        scheduler=None, vae=None, text_encoder=None, tokenizer=None, transformer=model
    )
    return Host(pipeline, {"transformer": model})


def _z_image() -> Host:
    model = diffusers.ZImageTransformer2DModel(
        dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16, axes_dims=[4, 6, 6],
        axes_lens=[8, 8, 8],
    )  # fmt: skip
    pipeline = diffusers.ZImagePipeline(
        scheduler=None, vae=None, text_encoder=None, tokenizer=None, transformer=model
    )
    return Host(pipeline, {"transformer": model})


class _Anima(lora_pipeline.AnimaLoraLoaderMixin):  # type: ignore[misc]  # its pipeline comes in modules
    def __init__(self) -> None:
        self.transformer = diffusers.CosmosTransformer3DModel(
            num_attention_heads=2, attention_head_dim=16, num_layers=1, text_embed_dim=16, adaln_lora_dim=8,
            max_size=(2, 8, 8), extra_pos_embed_type=None,
        )  # fmt: skip
        self.components = {"transformer": self.transformer}
        self.hf_device_map = None


def _anima() -> Host:
    pipeline = _Anima()
    return Host(pipeline, {"transformer": pipeline.transformer})


HOSTS: Final[Mapping[str, Callable[[], Host]]] = {
    "sd15": _sd15,
    "sdxl": _sdxl,
    "sd3": _sd3,
    "flux1": _flux1,
    "chroma": _chroma,
    "flux2": _flux2,
    "lumina2": _lumina2,
    "anima": _anima,
    "qwen_image": _qwen_image,
    "z_image": _z_image,
}
#: Sizes of the published models that its converters have in them, and those of the small models.
SIZES: Final = {
    "_convert_kohya_flux_lora_to_diffusers": ((3072, 3072, 3072, 12288), (32, 32, 32, 128)),
    "_convert_non_diffusers_lumina2_lora_to_diffusers": ((2304, 768, 768), (32, 16, 16)),
}


def small_sizes(name: str) -> FunctionType:
    """A converter of diffusers with the sizes of the small models in the place of its own."""
    old, new = SIZES[name]
    function = getattr(lora_conversion_utils, name)
    return FunctionType(_replaced(function.__code__, old, new), function.__globals__, name)


def _replaced(code: CodeType, old: object, new: object) -> CodeType:
    constants = tuple(
        _replaced(each, old, new) if isinstance(each, CodeType) else new if each == old else each
        for each in code.co_consts
    )
    return code.replace(co_consts=constants)


def sites_of(family: str) -> Sites:
    """The sites that a small model's names are among."""
    return published(family, "3.5-medium" if family == "sd3" else None)


def file_for(
    host: Host,
    sites: Sites,
    name: Name,
    pair: tuple[str, str],
    *,
    alpha: Callable[[], float | None] = lambda: None,
    ranks: tuple[int, ...] = (_RANK,),
    seed: int = 0,
) -> File:
    """An adapter with a module at every layer of the small model that `name` gives one."""
    source, chance = torch.Generator().manual_seed(seed), random.Random(seed)
    file = File({}, {})
    for site in sites.all:
        named = name(site)
        targets = [] if named is None else _targets(host, sites, site)
        if named is None or not targets or named in file.wanted:
            continue
        weights = [host.module(target).weight for target, _ in targets]
        rank, stated = chance.choice(ranks), alpha()
        up, down = _factors(weights, rank, source)
        file.tensors[named + pair[0]], file.tensors[named + pair[1]] = down, up
        if stated is not None:
            file.tensors[f"{named}.alpha"] = torch.tensor(stated)
        delta = up.flatten(1) @ down.flatten(1) * ((rank if stated is None else stated) / rank)
        parts = torch.split(delta, [len(weight) for weight in weights])
        file.wanted[named] = {
            target: _turned(part, swapped).reshape(weight.shape)
            for (target, swapped), part, weight in zip(targets, parts, weights, strict=True)
        }
    return file


def _targets(host: Host, sites: Sites, site: Site) -> list[tuple[str, bool]]:
    """The modules in diffusers that have the rows of a site in their order, and whether their halves are the
    other way round; none where the small model has not all of them."""
    if site.kind in ("norm", "embedding") and not len(site.shape) > 1:
        return []
    here = [site] if site.peft is not None else [each for each in sites.by_weight(site.weight) if each.peft]
    names = [(str(each.peft), each.swapped and not site.swapped) for each in here]
    return names if all(host.module(name) is not None for name, _ in names) else []


def _turned(part: torch.Tensor, swapped: bool) -> torch.Tensor:
    return torch.cat(part.chunk(2)[::-1]) if swapped else part


def _factors(
    weights: list[torch.Tensor], rank: int, source: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    columns, kernel = weights[0].shape[1:], weights[0].shape[2:]
    rows = sum(len(weight) for weight in weights)
    down = torch.randn(rank, *columns, generator=source) / 4
    up = torch.randn(rows, rank, *(1 for _ in kernel), generator=source) / 4
    return up, down


def fates(host: Host, file: File) -> dict[str, Fate] | None:
    """What became of each module of a file in diffusers; None where it refused the file."""
    try:
        host.pipeline.load_lora_weights(dict(file.tensors))
    except Exception:  # noqa: BLE001  whatever it is, the file is refused
        return None
    return {name: _fate(host, wanted) for name, wanted in file.wanted.items()}


def _fate(host: Host, wanted: dict[str, torch.Tensor]) -> Fate:
    found = [_delta(host.module(target)) for target in wanted]
    if any(each is None for each in found):
        return "none"
    same = (
        torch.allclose(each.reshape(delta.shape), delta, atol=1e-5)
        for each, delta in zip(found, wanted.values(), strict=True)
        if each is not None
    )
    return "right" if all(same) else "wrong"


def _delta(module: Any) -> torch.Tensor | None:
    adapters = list(getattr(module, "lora_A", {}))
    return module.get_delta_weight(adapters[0]).detach() if adapters else None
