import pytest

from contract.rules.model_kinds import ModelKind, is_embedding, kind_by_names
from trainer.weights.names import FAMILIES, published

_UNET = "model.diffusion_model.time_embed.0.weight"


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ([_UNET, "first_stage_model.decoder.conv_in.weight"], "checkpoint"),
        ([_UNET, "text_encoders.clip_l.x"], "checkpoint"),
        ([_UNET], "diffusion_model"),
        (["decoder.conv_in.weight"], "vae"),
        (["decoder.middle.0.residual.0.gamma"], "vae"),
        (["embeddings.token_embedding.weight"], "text_encoder"),
        (["model.embed_tokens.weight"], "text_encoder"),
        (["clip_g", "clip_l"], "embedding"),
        (["controlnet_down_blocks.0.weight", "time_embedding.linear_1.weight"], "controlnet"),
        (["params_ema.conv_first.weight"], "upscaler"),
        (["x"], None),
        ([], None),
    ],
)
def test_a_kind_is_told_by_names(names: list[str], kind: ModelKind | None) -> None:
    assert kind_by_names(names) == kind


@pytest.mark.parametrize("family", FAMILIES)
def test_every_denoiser_of_its_own_is_one(family: str) -> None:
    names = [site.weight for site in published(family).all if site.component == "unet"]
    assert kind_by_names([name.removeprefix("model.diffusion_model.") for name in names]) == "diffusion_model"


def test_more_than_an_embedding_is_none() -> None:
    assert is_embedding(["emb_params"])
    assert not is_embedding(["emb_params", "x"])
    assert not is_embedding([])
