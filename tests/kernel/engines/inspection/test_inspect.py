"""A look at a file: what it is, what is in it, and what is wrong with it."""

import hashlib
import json
import math
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import save_file

from contract.errors import JobCanceled
from tests.builders import adapters
from tests.kernel.engines.inspection.looks import listed, look, published_lora, write
from trainer.weights.names import FAMILIES, published

_MIB = 1 << 20


@pytest.mark.parametrize(
    ("name", "components", "rank"),
    [("sd15", {"unet": 192, "te1": 72}, 2), ("sdxl", {"unet": 722, "te1": 72, "te2": 192}, 1)],
)
def test_a_published_lora_is_told_whole(
    name: str, components: dict[str, int], rank: int, tmp_path: Path
) -> None:
    tensors = published_lora(name, rank=rank, alpha=0.5)
    path = write(tmp_path, tensors)
    result = look(path)
    modules = sum(components.values())
    assert (result.kind, result.family, result.reason) == ("lora", name, None)
    assert result.evidence
    assert (result.bytes, result.tensors) == (path.stat().st_size, 3 * modules)
    assert result.parameters == sum(tensor.numel() for tensor in tensors.values())
    assert result.dtypes == {"F16": 2 * result.parameters}
    assert result.adapter is not None
    assert result.adapter.networks == {"lora": modules}
    assert result.adapter.components == components
    assert (result.adapter.ranks, result.adapter.alphas) == ({str(rank): modules}, {"0.5": modules})
    assert sum(block.modules for block in result.adapter.blocks) == modules
    assert {each.name: (each.matched, each.total) for each in result.consumers} == dict.fromkeys(
        ("A1111", "Forge", "ComfyUI", "diffusers"), (3 * modules, 3 * modules)
    )
    assert result.warnings == []
    assert result.timings.keys() == {"header_s", "norms_s", "hashes_s"}


def test_blocks_stand_in_the_order_of_the_model(tmp_path: Path) -> None:
    result = look(write(tmp_path, published_lora("sdxl")), hashes=False)
    assert result.adapter is not None
    unet = [block.block for block in result.adapter.blocks if block.component == "unet"]
    assert unet == ["IN04", "IN05", "IN07", "IN08", "M00", *(f"OUT{number:02}" for number in range(6))]
    te2 = [block.block for block in result.adapter.blocks if block.component == "te2"]
    assert te2 == [f"TE{number:02}" for number in range(32)]


def _block(module: str) -> tuple[str, str, int]:
    """Component, block and number of the block of a module in kohya's names of SDXL."""
    if (found := re.match(r"lora_(te\d)_text_model_encoder_layers_(\d+)_", module)) is not None:
        return found[1], f"TE{int(found[2]):02}", int(found[2])
    found = re.match(r"lora_unet_(input_blocks|middle_block|output_blocks)_(\d+)_", module)
    assert found is not None
    if found[1] == "middle_block":
        return "unet", "M00", 0
    return "unet", f"{'IN' if found[1] == 'input_blocks' else 'OUT'}{int(found[2]):02}", int(found[2])


def test_every_block_has_its_own_ranks_and_alphas(tmp_path: Path) -> None:
    """Of an attention layer's k another rank than of the rest, of every block another alpha."""
    tensors: adapters.Tensors = {}
    wanted: defaultdict[tuple[str, str], list[Counter[str]]] = defaultdict(lambda: [Counter(), Counter()])
    for module, down, up in listed("sdxl"):
        component, block, number = _block(module)
        rank = 2 if module.endswith("to_k") or module.endswith("k_proj") else 1
        for part, shape in (("down", down), ("up", up)):
            sizes = [rank if each == "r" else int(each) for each in shape]
            tensors[f"{module}.lora_{part}.weight"] = torch.zeros(sizes, dtype=torch.float16)
        tensors[f"{module}.alpha"] = torch.tensor(number + 0.5, dtype=torch.float16)
        ranks, alphas = wanted[component, block]
        ranks[str(rank)] += 1
        alphas[f"{number + 0.5:g}"] += 1
    adapter = look(write(tmp_path, tensors), hashes=False, norms=False).adapter
    assert adapter is not None
    found = {(each.component, each.block): (each.ranks, each.alphas) for each in adapter.blocks}
    assert found == {place: (dict(ranks), dict(alphas)) for place, (ranks, alphas) in wanted.items()}
    assert {len(ranks) for ranks, _ in found.values()} == {2}


@pytest.mark.parametrize("naming", ["kohya", "peft", "generic"])
@pytest.mark.parametrize(
    ("family", "variant"), [(each, name) for each in FAMILIES for name in FAMILIES[each].published]
)
def test_a_lora_of_any_family_in_any_naming_is_told_from_its_file(
    family: str, variant: str, naming: str, tmp_path: Path
) -> None:
    """In ComfyUI, generic names of all families; in diffusers its own names."""
    pair = adapters.KOHYA if naming == "kohya" else adapters.PEFT
    tensors: adapters.Tensors = {}
    for site in published(family, variant).all:
        name = site.name(naming)
        # Files have a weight whole or in its parts: in parts in the names of diffusers.
        if name is None or site.component != "unet" or len(site.shape) < 2 or site.kind == "embedding":
            continue
        if naming == "peft" or site.rows is None:
            out, columns = site.shape[0], site.shape[1:]
            tensors[name + pair.up] = torch.zeros(out, 1, *(1,) * len(site.shape[2:]), dtype=torch.float16)
            tensors[name + pair.down] = torch.zeros(1, *columns, dtype=torch.float16)
    result = look(write(tmp_path, tensors), hashes=False, norms=False)
    assert (result.kind, result.family, result.reason) == ("lora", family, None)
    assert result.adapter is not None
    modules = len(tensors) // 2
    assert (result.adapter.naming, result.adapter.modules) == (naming, modules)
    assert result.adapter.networks.keys() <= {"lora", "locon"}
    assert result.adapter.ranks == {"1": modules} and result.adapter.alphas == {"none": modules}
    assert result.adapter.components == {"unet": modules}
    assert result.adapter.unknown == result.adapter.unpaired == []
    read = {each.name: each for each in result.consumers}
    assert {each.total for each in read.values()} == {len(tensors)}
    if naming == "generic":
        assert read["ComfyUI"].matched == len(tensors)
    for each in read.values():
        assert len(each.unmatched) == min(1000, each.total - each.matched)
        assert len(each.unmatched) == min(1000, each.total - each.matched)
        assert set(each.unmatched) <= tensors.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_any_family_is_told_from_its_file(family: str, tmp_path: Path) -> None:
    """The published keys, the widths a sixty-fourth."""
    published_weights = next(iter(FAMILIES[family].published.values()))()
    shapes = {
        name: [size if size % 64 else size // 64 for size in shape] for name, shape in published_weights
    }
    tensors = {name: torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items()}
    result = look(write(tmp_path, tensors), hashes=False)
    is_whole = any(name.startswith(("cond_stage_model.", "conditioner.")) for name in shapes)
    assert (result.kind, result.family, result.reason) == (
        "checkpoint" if is_whole else "diffusion_model",
        family,
        None,
    )
    assert (result.adapter, result.consumers, result.tensors) == (None, [], len(shapes))
    assert all(any(name.startswith(each.sign) for name in shapes) for each in result.evidence)


@pytest.mark.parametrize(
    ("name", "shape", "kind", "family"),
    [
        ("decoder.conv_in.weight", (512, 4, 3, 3), "vae", None),
        ("decoder.conv_in.weight", (512, 32, 3, 3), "vae", "flux2"),
        ("text_model.embeddings.token_embedding.weight", (64, 1024), "text_encoder", "sd2"),
        ("emb_params", (4, 768), "embedding", None),
        ("control_model.input_blocks.0.0.weight", (320, 4, 3, 3), "controlnet", None),
    ],
)
def test_a_component_is_told_from_its_file(
    name: str, shape: tuple[int, ...], kind: str, family: str | None, tmp_path: Path
) -> None:
    result = look(write(tmp_path, {name: torch.zeros(shape, dtype=torch.float16)}), hashes=False)
    assert (result.kind, result.family) == (kind, family)
    assert (result.reason is None) is (family is not None)


def test_hashes_are_those_that_an_independent_few_lines_give(tmp_path: Path) -> None:
    tensors = {**published_lora("sd15", rank=4), "lora_unet_time_embedding_linear_1.alpha": torch.tensor(2.0)}
    path = write(tmp_path, tensors, {"ss_a": "1", "other": "x", "sshs_model_hash": "0" * 64})
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    save_file(tensors, tmp_path / "trained.safetensors", {"ss_a": "1"})
    trained = (tmp_path / "trained.safetensors").read_bytes()
    result = look(path, norms=False)
    assert result.hashes is not None
    assert result.hashes.sha256 == hashlib.sha256(content).hexdigest()
    assert result.hashes.autov2 == result.hashes.sha256[:10].upper()
    assert result.hashes.sshs_model_hash == hashlib.sha256(content[start:]).hexdigest()
    assert result.hashes.autov3 == result.hashes.sshs_model_hash[:12].upper()
    assert result.hashes.sshs_legacy_hash == hashlib.sha256(trained[0x100000:0x110000]).hexdigest()[:8]
    assert result.hashes.stated_sshs_model_hash == "0" * 64
    assert result.hashes.stated_sshs_legacy_hash is None
    assert any("`sshs_model_hash` in the metadata is another file's" in each for each in result.warnings)


def test_every_type_of_module_is_counted_by_its_name(tmp_path: Path) -> None:
    at = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_"
    tensors = (
        adapters.lora(f"{at}attn1_to_q", (320, 320), 4)
        | adapters.loha(f"{at}attn1_to_k", (320, 320), 4, alpha=2.0)
        | adapters.lokr(f"{at}attn1_to_v", (8, 8), (40, 40))
        | adapters.dora(f"{at}attn2_to_q", (320, 320), 8)
        | adapters.full(f"{at}attn2_to_k", (320, 768))
        | adapters.locon_mid("lora_unet_down_blocks_0_resnets_0_conv1", (320, 320, 3, 3), 4)
    )
    adapter = look(write(tmp_path, tensors), hashes=False).adapter
    assert adapter is not None
    assert adapter.networks == dict.fromkeys(("lora", "loha", "lokr", "dora", "full", "locon"), 1)
    assert adapter.ranks == {"4": 3, "8": 1, "none": 2}
    assert adapter.alphas == {"2": 1, "none": 5}


def test_the_norm_of_a_block_is_that_of_all_its_modules(tmp_path: Path) -> None:
    at = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_"
    shapes = {f"{at}attn1_to_q": (320, 320), f"{at}attn1_to_k": (320, 320), f"{at}attn2_to_k": (320, 768)}
    tensors: adapters.Tensors = {}
    for index, (name, shape) in enumerate(shapes.items()):
        tensors |= adapters.lora(name, shape, 4, alpha=2.0, seed=index)
    adapter = look(write(tmp_path, tensors), hashes=False).adapter
    assert adapter is not None
    squares = [float(adapters.dense(tensors, name).square().sum()) for name in shapes]
    wanted = math.sqrt(sum(squares))
    (block,) = adapter.blocks
    assert (block.component, block.block, block.modules) == ("unet", "IN01", 3)
    assert block.norm == pytest.approx(wanted, rel=1e-9)


def test_modules_without_a_norm_and_with_damaged_numbers_are_named(tmp_path: Path) -> None:
    at = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_"
    tensors = adapters.lora(f"{at}q", (320, 320), 4) | adapters.lora(f"{at}k", (320, 320), 4)
    tensors[f"{at}k.lora_up.weight"][0, 0] = float("nan")
    tensors[f"{at}v.oft_blocks"] = torch.zeros(4, 80, 80)
    result = look(write(tmp_path, tensors), hashes=False)
    assert result.adapter is not None
    wanted = float(adapters.dense(tensors, f"{at}q").norm())
    assert [block.norm for block in result.adapter.blocks] == [pytest.approx(wanted, rel=1e-9)]
    assert [each for each in result.warnings if "NaN" in each] == [
        f"1 module has NaN or infinite numbers, as `{at}k`; no norm counts them."
    ]
    assert [each for each in result.warnings if "no norm that can be told" in each]


def test_what_does_nothing_or_too_much_is_named(tmp_path: Path) -> None:
    names = [name for name, _, _ in listed("sd15")][:5]
    tensors: adapters.Tensors = {}
    for name, alpha in zip(names, (0.0, -1.0, 1000.0, 4.0, 4.0), strict=True):
        tensors |= adapters.lora(name, (8, 8), 4, alpha=alpha)
    tensors |= adapters.lora("lora_unet_empty", (8, 8), 0, alpha=1.0)
    del tensors[f"{names[4]}.lora_down.weight"]
    tensors["nobody.knows.this"] = torch.zeros(3)
    result = look(write(tmp_path, tensors, {"ss_network_dim": "8"}), hashes=False)
    assert result.adapter is not None
    assert (result.adapter.unknown, result.adapter.unknown_total) == (["nobody.knows.this"], 1)
    empty = [f"lora_unet_empty.{part}" for part in ("alpha", "lora_down.weight", "lora_up.weight")]
    half = [f"{names[4]}.{part}" for part in ("alpha", "lora_up.weight")]
    assert sorted(result.adapter.unpaired) == sorted(empty + half)
    assert result.adapter.unpaired_total == 5
    said = "\n".join(result.warnings)
    for words in (
        f"1 module has alpha 0, which is nothing, as `{names[0]}`.",
        f"1 module has an alpha below 0, as `{names[1]}`.",
        f"1 module has an alpha of more than 64 times their rank, as `{names[2]}`.",
        "5 keys are of modules that are not whole, have rank 0, or do not fit together",
        "1 key belongs to nothing known, as `nobody.knows.this`.",
    ):
        assert words in said


def test_metadata_that_says_otherwise_than_the_tensors_is_named(tmp_path: Path) -> None:
    metadata = {"ss_network_dim": "64", "ss_network_alpha": "32", "ss_base_model_version": "sdxl_base_v1-0"}
    result = look(write(tmp_path, published_lora("sd15", alpha=1.0), metadata), hashes=False, norms=False)
    said = "\n".join(result.warnings)
    assert "`ss_network_dim` says 64, the modules have 1." in said
    assert "`ss_network_alpha` says 32, the modules have 1." in said
    assert "ss_base_model_version" in said
    assert result.family == "sd15"


def test_mixed_types_of_numbers_are_named(tmp_path: Path) -> None:
    tensors = published_lora("sd15")
    for name in list(tensors)[: len(tensors) // 2]:
        tensors[name] = tensors[name].to(torch.float32)
    assert (
        "The numbers are of several types: F32, F16." in look(write(tmp_path, tensors), norms=False).warnings
    )


def test_alphas_of_another_type_are_no_mixture(tmp_path: Path) -> None:
    tensors = published_lora("sd15")
    tensors |= {name: tensor.float() for name, tensor in tensors.items() if name.endswith(".alpha")}
    assert look(write(tmp_path, tensors), norms=False).warnings == []


def test_a_file_of_nothing_known_says_so(tmp_path: Path) -> None:
    result = look(write(tmp_path, {"a": torch.zeros(2, 2)}))
    assert (result.family, result.adapter, result.consumers) == (None, None, [])
    assert result.reason
    assert result.hashes is not None


def test_a_lora_of_no_known_family_keeps_its_components(tmp_path: Path) -> None:
    tensors = adapters.lora("lora_unet_strange_block_7", (8, 8), 2) | adapters.lora("lora_te2_odd", (8, 8), 2)
    result = look(write(tmp_path, tensors))
    assert (result.kind, result.family) == ("lora", None)
    assert result.adapter is not None
    assert result.adapter.components == {"unet": 1, "te2": 1}
    assert result.consumers == []


def test_a_lora_that_fits_two_families_is_judged_for_both(tmp_path: Path) -> None:
    tensors: adapters.Tensors = {}
    for letter in "qkv":
        name = f"transformer.single_transformer_blocks.0.attn.to_{letter}"
        tensors |= adapters.lora(name, (3072, 3072), 1, pair=adapters.PEFT)
    result = look(write(tmp_path, tensors), hashes=False)
    assert result.family is None
    assert result.adapter is not None
    assert [(block.component, block.block) for block in result.adapter.blocks] == [("unet", "SINGLE00")]
    assert {each.name: each.matched for each in result.consumers} == {
        "A1111": 0,
        "Forge, FLUX.1": 6,
        "Forge, Chroma": 0,
        "ComfyUI": 6,
        "diffusers": 6,
    }


def test_a_look_stops_where_it_is_told_to(tmp_path: Path) -> None:
    path = write(tmp_path, published_lora("sd15", rank=8))

    def stop() -> None:
        raise JobCanceled("Enough.")

    for wanted in ({"hashes": False}, {"norms": False}):
        with pytest.raises(JobCanceled):
            look(path, check=stop, **wanted)
    assert look(path, check=stop, hashes=False, norms=False).family == "sd15"


def test_an_answer_fits_into_a_message_whatever_the_header_says(tmp_path: Path) -> None:
    names = ["lora_unet_" + "x" * 400 + str(index) for index in range(3000)]
    tensors = {f"{name}.lora_up.weight": torch.zeros(1) for name in names}
    metadata = {f"ss_{index}": "[" + "1," * 40_000 + "1]" for index in range(300)}
    metadata |= {f"key{index}": "ü" * 10_000 for index in range(300)}
    metadata["ss_tag_frequency"] = json.dumps(
        {"a": {f"tag {index}" * 50: index + 1 for index in range(5000)}}
    )
    metadata["modelspec.thumbnail"] = "data:image/jpeg;base64," + "A" * (4 * _MIB)
    metadata["modelspec.trigger_phrase"] = "z" * 100_000
    metadata["lorakeet_recipe"] = "r" * (4 * _MIB)
    path = write(tmp_path, tensors, metadata)
    assert path.stat().st_size > 30 * _MIB
    result = look(path)
    assert len(msgspec.json.encode(result)) < 8 * _MIB
    assert result.tags == 5000
    assert len(result.tag_frequency) == 1000
    assert result.modelspec["thumbnail"].endswith("… (4,194,327 characters)")
    assert result.recipe is not None and result.recipe.endswith("… (4,194,304 characters)")


def test_no_look_needs_torch(tmp_path: Path) -> None:
    path = write(tmp_path, published_lora("sd15"), {"ss_tag_frequency": "{}"})
    code = (
        "import sys\n"
        "from contract.methods.inspect import InspectParams\n"
        "from kernel.engines.inspection.inspect import Look\n"
        "from trainer.weights.tensor_file import open_weights\n"
        "with open_weights(sys.argv[1]) as file:\n"
        "    look = Look(file, lambda: None)\n"
        "    result = look.result(InspectParams(file=sys.argv[1], norms=False))\n"
        "    assert result.hashes and result.consumers and result.adapter\n"
        "    assert not {'torch', 'numpy', 'diffusers'} & sys.modules.keys(), 'without norms'\n"
        "    blocks = look.result(InspectParams(file=sys.argv[1], hashes=False)).adapter.blocks\n"
        "    assert all(block.norm for block in blocks)\n"
        "    assert 'numpy' in sys.modules and 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
