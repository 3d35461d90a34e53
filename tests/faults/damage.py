"""Safetensors files with something wrong in them: bytes, lengths, and every field of the header."""

import json
import random
import struct
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final

_TENSORS: Final = {
    "model.a.weight": ("F16", [2, 3], 12),
    "model.a.alpha": ("BF16", [], 2),
    "empty": ("F32", [0, 5], 0),
    "schön.b": ("I64", [2], 16),
    "fp8": ("F8_E4M3", [3, 1, 1], 3),
    "last": ("F32", [2, 2], 16),
}
_METADATA: Final = {"ss_network_dim": "16", "modelspec.title": "näme", "ss_tag_frequency": '{"a": {"b": 1}}'}
#: What a number of a shape or an offset, or any other value, may be said to be.
_NUMBERS: Final = (0, 1, -1, 2, 3, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**40)
_VALUES: Final[tuple[Any, ...]] = (
    None,
    True,
    "",
    "F16",
    "0",
    [],
    {},
    1.5,
    1e300,
    -0.0,
    [[]],
    {"dtype": "F16"},
    "\ud800",
    "\0",
)
_DTYPES: Final = ("F16", "F32", "f16", "F8", "F4", "F99", "BOOL", "float16", "I64", "U8", "C64", "\u0000F16")
_PIECES: Final = (
    *(b"NaN", b"Infinity", b"-Infinity", b"-0", b"1e9", b"null", b"\xff", b"\xc0\x80", b"\xed\xa0\x80"),
    *(b"\\ud800", b"\\u0000", b'"', b"{", b"}", b"[", b"]", b",", b":", b" ", b"\xef\xbb\xbf", b"\0", b"9"),
    *(b'"__metadata__":{"x":1},', b'"last":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},', b"[" * 3000),
)


def whole() -> tuple[dict[str, Any], bytes]:
    """The header of a file with nothing wrong in it, and its data."""
    header: dict[str, Any] = {"__metadata__": dict(_METADATA)}
    end = 0
    for name, (dtype, shape, size) in _TENSORS.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    return header, bytes(range(end))


def damaged(chance: random.Random) -> bytes:
    """A file with one to three things wrong in it; a few have nothing wrong after all."""
    header, data = whole()
    for _ in range(chance.choice((0, 1, 1, 2))):
        chance.choice(_FIELDS)(header, chance)
    raw = bytearray(json.dumps(header, ensure_ascii=chance.random() < 0.3).encode("utf-8", "surrogatepass"))
    raw += b" " * chance.randrange(9)
    for _ in range(chance.choice((0, 0, 1, 2))):
        _edit(raw, chance)
    if chance.random() < 0.1:
        data = data[: chance.randrange(len(data) + 1)] + bytes(chance.randrange(3))
    content = struct.pack("<Q", _length(len(raw), chance)) + bytes(raw) + data
    return content[: chance.randrange(len(content) + 1)] if chance.random() < 0.05 else content


def _length(true: int, chance: random.Random) -> int:
    """What the file says of the length of its header: the truth, mostly."""
    if chance.random() < 0.85:
        return true
    wrong = (0, 1, 7, true - 1, true + 1, true + 40, 10**8, 10**8 + 1, 2**40, 2**63, 2**64 - 1)
    return max(0, chance.choice(wrong))


def _edit(raw: bytearray, chance: random.Random) -> None:
    """Bytes changed, put in, taken out or repeated somewhere."""
    at = chance.randrange(len(raw) + 1)
    match chance.randrange(4):
        case 0:
            raw[at : at + 1] = bytes([chance.randrange(256)])
        case 1:
            raw[at:at] = chance.choice(_PIECES)
        case 2:
            del raw[at : at + chance.randint(1, 30)]
        case _:
            raw[at:at] = raw[chance.randrange(len(raw) + 1) :][: chance.randint(1, 60)]


def _tensor(header: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """One that is still there as an object; else one that is not in the header."""
    found = [each for name, each in header.items() if name != "__metadata__" and isinstance(each, dict)]
    return chance.choice(found) if found else {}


def _shape(header: dict[str, Any], chance: random.Random) -> None:
    length = chance.choice((0, 1, 2, 4, 300))
    _tensor(header, chance)["shape"] = [chance.choice(_NUMBERS) for _ in range(length)]


def _offsets(header: dict[str, Any], chance: random.Random) -> None:
    length = chance.choice((2, 2, 2, 1, 3, 0))
    _tensor(header, chance)["data_offsets"] = [
        chance.choice((*_NUMBERS, *range(0, 50, 2))) for _ in range(length)
    ]


def _overlap(header: dict[str, Any], chance: random.Random) -> None:
    """Two tensors at one place, or with their places exchanged."""
    one, other = _tensor(header, chance), _tensor(header, chance)
    one["data_offsets"], other["data_offsets"] = (
        other.get("data_offsets"),
        chance.choice((one, other)).get("data_offsets"),
    )


def _dtype(header: dict[str, Any], chance: random.Random) -> None:
    _tensor(header, chance)["dtype"] = chance.choice(_DTYPES)


def _value(header: dict[str, Any], chance: random.Random) -> None:
    """Anything in the place of any field or tensor, or a field that is not known."""
    value = deepcopy(chance.choice((*_VALUES, *_NUMBERS)))
    if chance.random() < 0.5:
        header[chance.choice([*header, "other", "", "\ud800"])] = value
    else:
        _tensor(header, chance)[chance.choice(("dtype", "shape", "data_offsets", "other"))] = value


def _missing(header: dict[str, Any], chance: random.Random) -> None:
    """A field, or a tensor."""
    among = chance.choice((header, _tensor(header, chance)))
    if among:
        del among[chance.choice(list(among))]


def _metadata(header: dict[str, Any], chance: random.Random) -> None:
    texts = header.get("__metadata__")
    if isinstance(texts, dict) and chance.random() < 0.7:
        texts[chance.choice(("ss_network_dim", "x" * 500, ""))] = deepcopy(
            chance.choice((*_VALUES, 1, "y" * 5000))
        )
    else:
        header["__metadata__"] = deepcopy(chance.choice(_VALUES))


_FIELDS: Final[tuple[Callable[[dict[str, Any], random.Random], None], ...]] = (
    _shape,
    _offsets,
    _overlap,
    _dtype,
    _value,
    _missing,
    _metadata,
)
