"""What one prompt says: its text, and the options that hold for it alone, checked one by one."""

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec

from contract.methods.training.sampling import Sampler

#: The names that the reference trainer's files use for samplers that we have.
SAMPLER_NAMES: Final[Mapping[str, Sampler]] = {
    "ddim": "ddim",
    "euler": "euler",
    "k_euler": "euler",
    "euler_a": "euler_a",
    "k_euler_a": "euler_a",
    "dpmsolver++": "dpmpp_2m",
    "dpmpp_2m": "dpmpp_2m",
}

_WHOLE: Final = re.compile(r"[0-9]{1,20}")
_NUMBER: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20}")


class PromptOptions(msgspec.Struct, frozen=True, kw_only=True):
    """None is what a prompt does not say. `guidance` is classifier-free, where 1 is without; `embedded` is
    the guidance that distilled models are told. Sizes are in pixels, as written."""

    text: str
    negative: str | None = None
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    embedded: float | None = None
    sampler: Sampler | None = None


class OptionInvalid(Exception):
    """Raised when a value does not fit its option; the text says what does, for people."""


class Option(NamedTuple):
    """An option: its flag in a line, its key in a table, its field, and how its text is read."""

    flag: str
    key: str
    field: str
    read: Callable[[str], object]


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
            raise OptionInvalid(f"needs a whole number from {least} to {most}")
        return int(text)

    return read


def _number(least: float, most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        if not _NUMBER.fullmatch(text) or not least <= float(text) <= most:
            raise OptionInvalid(f"needs a number from {least:g} to {most:g}")
        return float(text)

    return read


def _sampler(text: str) -> Sampler:
    if text not in SAMPLER_NAMES:
        raise OptionInvalid(f"needs one of {', '.join(sorted(set(SAMPLER_NAMES.values())))}")
    return SAMPLER_NAMES[text]


#: The ranges are those of `contract.methods.training.sampling`.
OPTIONS: Final = (
    Option("n", "negative_prompt", "negative", str),
    Option("w", "width", "width", _whole(64, 8192)),
    Option("h", "height", "height", _whole(64, 8192)),
    Option("d", "seed", "seed", _whole(0, 2**53 - 1)),
    Option("s", "sample_steps", "steps", _whole(1, 1000)),
    Option("l", "scale", "guidance", _number(1, 100)),
    Option("g", "guidance_scale", "embedded", _number(0, 100)),
    Option("ss", "sample_sampler", "sampler", _sampler),
)
BY_FLAG: Final = {each.flag: each for each in OPTIONS}
BY_KEY: Final = {each.key: each for each in OPTIONS}
#: Flags of the reference trainer for what we do not do.
UNSUPPORTED: Final = {
    "cn": "control images",
    "ctr": "control images",
    "ci": "control images",
    "i": "input images",
    "rcfg": "renormalized guidances",
    "fs": "shifts of flow models",
    "am": "multipliers of networks",
    "f": "videos",
}
