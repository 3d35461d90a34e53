"""Levels and limits."""

import pytest

from contract import COMPATIBLE_LEVEL, LEVEL, SUPPORTED_LEVELS
from contract.errors import LevelUnsupported
from contract.handshake import LimitsWanted, choose_level, decode_limits


@pytest.mark.parametrize("offered", [[LEVEL], [LEVEL + 1, LEVEL, LEVEL - 9], [LEVEL, LEVEL]])
def test_the_newest_level_that_both_speak_is_taken(offered: list[int]) -> None:
    assert choose_level(offered) == LEVEL


@pytest.mark.parametrize("offered", [[], [LEVEL + 1], [COMPATIBLE_LEVEL - 1], [-1, 99]])
def test_without_a_common_level_the_supported_ones_are_named(offered: list[int]) -> None:
    with pytest.raises(LevelUnsupported) as caught:
        choose_level(offered)
    assert caught.value.to_wire().data.supported == list(SUPPORTED_LEVELS)


def test_limits_are_those_that_were_asked_for() -> None:
    limits = decode_limits(LimitsWanted(max_message_bytes=1 << 20, max_image_pixels=5))
    assert (limits.max_message_bytes, limits.max_image_pixels) == (1 << 20, 5)


def test_limits_that_were_not_asked_for_keep_their_defaults() -> None:
    limits = decode_limits(LimitsWanted())
    assert (limits.max_message_bytes, limits.max_image_pixels) == (8 << 20, 64_000_000)
