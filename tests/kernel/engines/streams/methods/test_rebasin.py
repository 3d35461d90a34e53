"""Re-basin against models whose channels were put into another order by hand."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch.nn.functional import conv2d, gelu, group_norm, linear, scaled_dot_product_attention, silu

from kernel.engines.streams.methods import METHODS, Arguments, Piece, rebasin
from kernel.engines.streams.methods.rebasin import Channels, Orders, Read, all_channels, match
from kernel.engines.streams.parts import ema_name
from tests.builders.checkpoints import sd15

Model = dict[str, torch.Tensor]
RESIDUAL = "model.diffusion_model.input_blocks.1.0"
BLOCK = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0"


@pytest.fixture(scope="module")
def model() -> Model:
    tensors = sd15(dtype=torch.float32, channels=(64, 64), vae=True)
    return {name: each for name, each in tensors.items() if each.is_floating_point()}


def _merged(a: Model, b: Model, alpha: float) -> Model:
    method, models = METHODS["rebasin"](), (a, b)
    shapes = {name: tuple(each.shape) for name, each in a.items()}
    return {
        name: method.whole(
            [a[name], b[name]],
            Arguments(alpha=alpha),
            Piece(name, shapes[name], whole=lambda index, key: models[index][key], shapes=shapes),
        )
        for name in a
    }


def _shuffled(model: Model, seed: int) -> Model:
    """The same function: every set of channels that may be put into another order is."""
    source = torch.Generator().manual_seed(seed)
    shuffled = dict(model)
    for channels in all_channels({name: tuple(each.shape) for name, each in model.items()}):
        name, axis = channels.sets[0][0]
        size = model[name].shape[axis] // channels.copies // channels.blocks
        places = torch.randperm(channels.blocks, generator=source)
        for axes in channels.sets:
            order = torch.cat([torch.randperm(size, generator=source) + size * int(p) for p in places])
            for name, axis in axes:
                copies = channels.copies if axis == 0 else 1
                index = torch.cat([order + len(order) * copy for copy in range(copies)])
                shuffled[name] = shuffled[name].index_select(axis, index)
    return shuffled


def _residual(model: Model, x: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
    """The residual block of the original code, of 32 groups."""

    def part(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return model[f"{RESIDUAL}.{name}.weight"], model[f"{RESIDUAL}.{name}.bias"]

    h = conv2d(silu(group_norm(x, 32, *part("in_layers.0"))), *part("in_layers.2"), padding=1)
    h = h + linear(silu(emb), *part("emb_layers.1"))[:, :, None, None]
    h = conv2d(silu(group_norm(h, 32, *part("out_layers.0"))), *part("out_layers.3"), padding=1)
    return x + h


def _transformer(model: Model, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """Attention of 8 heads to the context, and the feed-forward, of the original code."""

    def weight(name: str) -> torch.Tensor:
        return model[f"{BLOCK}.{name}"]

    def heads(each: torch.Tensor) -> torch.Tensor:
        return each.reshape(*each.shape[:2], 8, -1).transpose(1, 2)

    query, key, value = (
        heads(linear(source, weight(f"attn2.to_{kind}.weight")))
        for source, kind in ((x, "q"), (context, "k"), (context, "v"))
    )
    found = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    x = x + linear(found, weight("attn2.to_out.0.weight"), weight("attn2.to_out.0.bias"))
    inner, gate = linear(x, weight("ff.net.0.proj.weight"), weight("ff.net.0.proj.bias")).chunk(2, -1)
    return x + linear(inner * gelu(gate), weight("ff.net.2.weight"), weight("ff.net.2.bias"))


def _outputs(model: Model) -> list[torch.Tensor]:
    source = torch.Generator().manual_seed(9)
    picture = torch.randn(1, 64, 6, 6, generator=source)
    emb = torch.randn(1, 256, generator=source)
    words, context = torch.randn(1, 10, 64, generator=source), torch.randn(1, 5, 768, generator=source)
    return [_residual(model, picture, emb), _transformer(model, words, context)]


def test_the_orders_that_are_used_leave_the_function_as_it_is(model: Model) -> None:
    shuffled = _shuffled(model, 1)
    changed = [name for name in model if not torch.equal(model[name], shuffled[name])]
    assert len(changed) > 100
    for before, after in zip(_outputs(model), _outputs(shuffled), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_a_model_in_another_order_is_recognised(model: Model) -> None:
    shuffled = _shuffled(model, 1)
    found = _merged(model, shuffled, 0.5)
    for name, each in model.items():
        assert torch.equal(found[name], each), name


def test_half_of_a_tuned_model_in_another_order_is_half_of_the_tuned_model(model: Model) -> None:
    source = torch.Generator().manual_seed(2)
    tuned = {name: each + 0.01 * torch.randn(each.shape, generator=source) for name, each in model.items()}
    found = _merged(model, _shuffled(tuned, 3), 0.5)
    for name, each in model.items():
        torch.testing.assert_close(found[name], (each + tuned[name]) / 2)


def test_a_file_that_is_the_u_net_alone_has_the_same_channels(model: Model) -> None:
    prefix = "model.diffusion_model."
    unet = {name: each for name, each in model.items() if name.startswith(prefix)}
    bare = {name.removeprefix(prefix): each for name, each in unet.items()}
    found = _merged(bare, _shuffled(bare, 1), 0.5)
    assert sum(1 for _ in all_channels({name: tuple(each.shape) for name, each in bare.items()})) > 10
    for name, each in bare.items():
        assert torch.equal(found[name], each), name


def test_averages_are_put_into_the_order_of_their_weights(model: Model) -> None:
    names = [name for name in model if name.startswith("model.diffusion_model.")]
    shuffled = _shuffled(model, 1)
    averages = {ema_name(name): model[name] * 2 for name in names}
    other = {ema_name(name): shuffled[name] * 2 for name in names}
    found = _merged({**model, **averages}, {**shuffled, **other}, 0.5)
    for name, each in averages.items():
        assert torch.equal(found[name], each), name


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (f"{RESIDUAL}.in_layers.2.weight", ()),
        (f"{RESIDUAL}.in_layers.2.weight", (33, 64, 3, 3)),
        (f"{RESIDUAL}.out_layers.3.weight", (64,)),
        (f"{BLOCK}.ff.net.0.proj.weight", (513, 64)),
        (f"{BLOCK}.ff.net.2.weight", (64,)),
        (f"{BLOCK}.attn2.to_q.weight", (0, 64)),
        (f"{BLOCK}.attn2.to_v.weight", None),
        (f"{BLOCK}.attn2.to_out.0.weight", None),
    ],
)
def test_channels_of_odd_tensors_stay_where_they_are(
    model: Model, name: str, shape: tuple[int, ...] | None
) -> None:
    odd = {key: each for key, each in model.items() if key.startswith((RESIDUAL, BLOCK)) and key != name}
    if shape is not None:
        odd[name] = torch.ones(shape)
    found = _merged(odd, odd, 0.5)
    assert all(torch.equal(found[key], each) for key, each in odd.items())


def test_channels_are_matched_once_for_all_threads(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    matched: list[Channels] = []
    started = Barrier(2)

    def count(channels: Channels, read: Read) -> Orders:
        matched.append(channels)
        return match(channels, read)

    monkeypatch.setattr(rebasin, "match", count)
    method, shapes = METHODS["rebasin"](), {name: tuple(each.shape) for name, each in model.items()}

    def merge(name: str) -> torch.Tensor:
        started.wait()
        piece = Piece(name, shapes[name], whole=lambda _, key: model[key], shapes=shapes)
        return method.whole([model[name]] * 2, Arguments(), piece)

    names = [f"{BLOCK}.ff.net.0.proj.weight", f"{BLOCK}.ff.net.0.proj.bias"]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(merge, names))
    assert all(torch.equal(each, model[name]) for name, each in zip(names, found, strict=True))
    assert len(matched) == 1


def test_other_families_are_refused_by_name() -> None:
    why = METHODS["rebasin"]().refusal("sdxl")
    assert why is not None and "sdxl" in why
    assert METHODS["rebasin"]().refusal("sd15") is None
