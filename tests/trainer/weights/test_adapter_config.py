"""Alphas in the metadata of a file that diffusers saved: found by the end of a path, or by a pattern."""

import json
import math
from typing import Any

import pytest

from trainer.weights.adapter_config import CONFIG_KEY, AdapterConfig, PatternRefused


def _config(**said: Any) -> AdapterConfig:
    return AdapterConfig({CONFIG_KEY: json.dumps({f"unet.{name}": value for name, value in said.items()})})


def test_the_first_pattern_that_fits_counts_plain_or_not() -> None:
    patterns = {"mid.attn.q": 1, ".*mid.*": 2, "attn.q": 3, r"b\.\d+\.(?:q|k)": 5}
    config = _config(lora_alpha=7, alpha_pattern=patterns)
    found = {"mid.attn.q": 1, "mid.attn.k": 2, "up.attn.q": 3, "attn.q": 3, "up.b.3.q": 5, "xattn.q": 7}
    assert {path: config.alpha(f"unet.{path}", 4) for path in found} == found


def test_a_component_has_its_own_alphas() -> None:
    config = _config(lora_alpha=7, alpha_pattern={"q": 2})
    assert config.alpha("unet.q", 4) == 2
    assert config.alpha("text_encoder.q", 4) is None


def test_the_root_of_the_rank_is_taken_where_the_file_says_so() -> None:
    assert _config(lora_alpha=8, use_rslora=True).alpha("unet.q", 16) == 8 * 4
    assert _config(lora_alpha=8, use_rslora="yes").alpha("unet.q", 16) == 8


@pytest.mark.parametrize("alpha", [10**400, math.inf])
def test_what_no_float_can_be_is_infinite(alpha: float) -> None:
    assert _config(lora_alpha=alpha).alpha("unet.q", 4) == math.inf


@pytest.mark.parametrize("pattern", ["(.+)+z", "(a|a)*z", "a*a*a*a*z", "(?=a)", r"(a)\1", "a|" * 1000 + "b"])
def test_patterns_that_could_take_forever_are_refused(pattern: str) -> None:
    with pytest.raises(PatternRefused, match="a|z"):
        _config(alpha_pattern={pattern: 3}).alpha("unet." + "a" * 200, 4)


def test_patterns_are_not_searched_for_in_endless_names() -> None:
    config = _config(alpha_pattern={".*a.*a.*b": 3, "a.q": 2})
    assert config.alpha("unet." + "a" * 200_000, 4) is None
    assert config.alpha("unet." + "a." * 1_000_000 + "q", 4) == 2


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "7"])
def test_what_is_no_object_says_nothing(text: str) -> None:
    assert AdapterConfig({CONFIG_KEY: text}).alpha("unet.q", 4) is None
    assert AdapterConfig({}).alpha("unet.q", 4) is None
