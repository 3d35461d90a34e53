"""`lorakeet inspect` from the outside."""

from pathlib import Path

import pytest

from contract.methods.inspect import BlockSummary, Consumer, Evidence, Hashes, InspectResult, TagCount
from orchestrator.cli import inspect_shown
from tests.builders import adapters
from tests.kernel.engines.inspection.looks import published_lora, write
from tests.orchestrator.cli.command import lorakeet


def test_a_file_is_shown_with_all_that_is_in_it(tmp_path: Path) -> None:
    metadata = {
        "ss_sd_model_name": "base.safetensors",
        "ss_optimizer": "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.1)",
        "modelspec.trigger_phrase": "ohwx \x1b[31mred",
        "ss_network_dim": "4",
    }
    path = write(tmp_path, published_lora("sd15", rank=2, alpha=1.0), metadata)
    done = lorakeet("inspect", path)
    assert (done.code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "x.safetensors"
    assert lines[1].startswith("  SD1.5 LoRA · 2.4 MiB · 792 tensors · 1.2 M parameters · fp16")
    for line in (
        "  trained    base base.safetensors   optimizer AdamW8bit",
        "  trigger    ohwx \\x1b[31mred  modelspec.trigger_phrase",
        "  modules    264 LoRA   unet 192  te1 72   kohya names",
        "  rank       2",
        "  alpha      1",
        "  ‖ΔW‖ by block",
        "  A1111      ━━━━━━━━━━━━━━━━━━━━━━━━  792 of 792",
        "  diffusers  ━━━━━━━━━━━━━━━━━━━━━━━━  792 of 792",
        "  ! `ss_network_dim` says 4, the modules have 2.",
    ):
        assert line in lines
    assert [line.split()[:2] for line in lines if line.startswith("  unet ")][:2] == [
        ["unet", "IN01"],
        ["unet", "IN02"],
    ]
    assert "\x1b" not in done.stdout


def test_programs_get_all_of_it_as_one_event(tmp_path: Path) -> None:
    path = write(tmp_path, published_lora("sd15"))
    done = lorakeet("inspect", path, "--json", "--no-norms", "--no-hashes")
    assert (done.code, done.stderr) == (0, "")
    (event,) = done.of("inspected")
    assert (event["result"]["file"], event["result"]["family"]) == (str(path), "sd15")
    assert (event["result"]["hashes"], event["result"]["timings"].keys()) == (None, {"header_s"})


def test_keys_that_a_program_leaves_aside_are_named(tmp_path: Path) -> None:
    tensors = published_lora("sd15")
    for number in range(8):
        tensors |= adapters.lora(f"lora_unet_no_such_place_{number}", (8, 8), 1)
    path = write(tmp_path, tensors)
    few = lorakeet("inspect", path, "--no-hashes", "--no-norms").stdout
    every = lorakeet("inspect", path, "--no-hashes", "--no-norms", "--keys").stdout
    assert "  ComfyUI    ━━━━━━━━━━━━━━━━━━━━━━━─  792 of 808" in few.splitlines()
    assert few.count("… 11 more") == 3
    assert "… 11 more" not in every
    assert every.count("lora_unet_no_such_place_7.lora_up.weight") == 4
    assert "takes a file of which more than 12 keys fit nothing for another model's; here 16 do." in few


def test_a_file_that_cannot_be_read_ends_with_its_code(tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"PK\x03\x04")
    done = lorakeet("inspect", tmp_path / "x.ckpt")
    assert done.code == 3
    assert "is a pickle of PyTorch, no safetensors file" in done.stderr
    assert lorakeet("inspect", tmp_path / "none.safetensors").code == 3


def _texts(result: InspectResult, *, width: int | None) -> list[str]:
    lines = inspect_shown.shown(result, width=width, keys=False)
    return ["".join(part.text for part in line).rstrip() for line in lines]


def _result(**more: object) -> InspectResult:
    facts: dict[str, object] = {
        "file": "/a/x.safetensors", "bytes": 10, "tensors": 1, "parameters": 999,
        "dtypes": {"F32": 6, "F16": 2}, "kind": "lora", "family": "sdxl",
    }  # fmt: skip
    return InspectResult(**(facts | more))  # type: ignore[arg-type]


def test_a_terminal_gets_a_chart_for_each_component() -> None:
    blocks = [
        BlockSummary(component="unet", block=f"IN{index:02}", modules=1, ranks={}, alphas={}, norm=norm)
        for index, norm in enumerate([1.0, 3.0, None, 0.0, 0.001])
    ]
    lines = [
        "".join(part.text for part in line).rstrip() for line in inspect_shown._norms(blocks, terminal=True)
    ]
    assert lines == [
        "",
        "  ‖ΔW‖ by block",
        "  unet          ██",
        "  max 3         ██",
        "             ██ ██ ··    ▁▁",
        "             IN00",
    ]


def test_types_and_unknown_files_are_told_in_the_title() -> None:
    assert (
        _texts(_result(), width=None)[1]
        == "  SDXL LoRA · 10 B · 1 tensors · 999 parameters · 75% fp32 + 25% fp16"
    )
    unknown = _texts(_result(kind=None, family=None, reason="No such keys."), width=None)
    assert unknown[1].startswith("  file of unknown kind, unknown family · 10 B")
    assert "  unknown    No such keys." in unknown


@pytest.mark.parametrize(
    ("matched", "bar"), [(0, "─" * 24), (1, "━" + "─" * 23), (999, "━" * 23 + "─"), (1000, "━" * 24)]
)
def test_a_bar_is_full_only_for_all_keys_and_empty_only_for_none(matched: int, bar: str) -> None:
    program = Consumer(name="ComfyUI", matched=matched, total=1000, unmatched=["k"] if matched < 1000 else [])
    assert f"  ComfyUI    {bar}  {matched:,} of 1,000" in _texts(_result(consumers=[program]), width=80)


def test_a_type_of_next_to_nothing_is_no_mixture() -> None:
    title = _texts(_result(dtypes={"F16": 10_000, "I64": 8, "F32": 4}), width=None)[1]
    assert title.endswith("999 parameters · fp16")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_lines_fit_the_terminal_and_keep_their_words(width: int) -> None:
    long = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    note = "Loads nothing of it. It takes a file of which many keys fit nothing for another model's. " * 2
    result = _result(
        evidence=[Evidence(sign=long, says="attention to text 768 wide, as one or the other model has it")],
        training={"ss_sd_model_name": "b" * 50, "ss_steps": 1200, "ss_resolution": "(512, 512)"},
        tag_frequency=[TagCount(tag=f"red hair {number}", count=number) for number in range(20)],
        tags=300,
        consumers=[Consumer(name="Forge, Chroma", matched=0, total=8, unmatched=[long], note=note.strip())],
        hashes=Hashes(
            sha256="a" * 64, autov2="A" * 10, autov3="B" * 12, sshs_model_hash="c" * 64,
            sshs_legacy_hash="d" * 8,
        ),
        warnings=["`ss_network_dim` says 16, the modules have 4. " * 3],
    )  # fmt: skip
    lines = _texts(result, width=width)
    assert max(map(len, lines)) <= max(width, 13 + 64)
    assert " ".join("".join(lines).split()).count("red hair") == 12
    assert " ".join(line.strip() for line in lines).count("for another model's.") == 2
    assert sum(line.endswith("attn2_to_k") for line in lines) == 1
    assert f"{long}\n" in "\n".join(_texts(result, width=None)) + "\n"
