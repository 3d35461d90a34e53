"""Damage of every kind to the bytes of a file, the same for the same seed."""

import random
import struct
from collections.abc import Callable
from typing import Final

#: Where numbers of headers begin to mean something else.
_NUMBERS: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def _flip(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def _overwrite(content: bytearray, chance: random.Random) -> None:
    at, count = chance.randrange(len(content)), chance.choice((1, 2, 4, 16, 200))
    content[at : at + count] = chance.randbytes(count)


def _number(content: bytearray, chance: random.Random) -> None:
    form, top = chance.choice(((">B", 0xFF), (">H", 0xFFFF), ("<H", 0xFFFF), (">I", None), ("<I", None)))
    value = chance.choice(_NUMBERS)
    at = chance.randrange(len(content))
    packed = struct.pack(form, value if top is None else value & top)
    content[at : at + len(packed)] = packed


def _head(content: bytearray, chance: random.Random) -> None:
    content[chance.randrange(min(64, len(content)))] = chance.randrange(256)


def _cut(content: bytearray, chance: random.Random) -> None:
    del content[chance.randrange(len(content)) :]


def _drop(content: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(content))
    del content[at : at + chance.choice((1, 4, 50, 1000))]


def _repeat(content: bytearray, chance: random.Random) -> None:
    at, count = chance.randrange(len(content)), chance.choice((4, 50, 1000))
    content[at:at] = content[at : at + count] * chance.choice((1, 1, 50))


def _insert(content: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(content))
    content[at:at] = chance.randbytes(chance.choice((1, 4, 100)))


_WAYS: Final[tuple[Callable[[bytearray, random.Random], None], ...]] = (
    _flip,
    _flip,
    _overwrite,
    _number,
    _number,
    _head,
    _cut,
    _drop,
    _repeat,
    _insert,
)


def mutated(content: bytes, chance: random.Random) -> bytes:
    """`content`, damaged one to four times."""
    damaged = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        if not damaged:
            break
        chance.choice(_WAYS)(damaged, chance)
    return bytes(damaged)
