"""The header of a safetensors file: it is what the format's own library writes, and it is read back.

What is refused, and that nothing else ever comes out of it: `tests/orchestrator/models/test_header.py`.
"""

import struct
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings, strategies
from safetensors import deserialize
from safetensors.torch import save

from contract.rules.tensor_header import (
    DTYPE_BITS,
    MAX_HEADER_BYTES,
    HeaderInvalid,
    Tensor,
    data_bytes,
    encode_header,
    header_length,
    library_order,
    parse_header,
)

#: What torch calls each type.
_TORCH_NAMES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}

_names = strategies.text(min_size=1, max_size=12).filter(lambda name: name != "__metadata__")
_tensors = strategies.dictionaries(
    _names,
    strategies.tuples(
        strategies.sampled_from(list(_TORCH_NAMES)),
        strategies.lists(strategies.integers(0, 4), max_size=3),
    ),
    max_size=6,
)
#: Of one key at most: the library writes more in any order.
_metadata = strategies.dictionaries(strategies.text(max_size=12), strategies.text(max_size=20), max_size=1)


def _placed(tensors: dict[str, tuple[str, list[int]]]) -> dict[str, Tensor]:
    placed, end = {}, 0
    for name in sorted(tensors, key=lambda each: library_order(tensors[each][0], each)):
        dtype, shape = tensors[name]
        placed[name] = Tensor(dtype, shape, (end, end + data_bytes(dtype, shape)))
        end += data_bytes(dtype, shape)
    return placed


def _by_library(tensors: dict[str, tuple[str, list[int]]], metadata: dict[str, str]) -> bytes:
    content = {
        name: torch.empty(shape, dtype=getattr(torch, _TORCH_NAMES[dtype]))
        for name, (dtype, shape) in tensors.items()
    }
    return save(content, metadata)


@given(_tensors.filter(bool), _metadata)
@settings(max_examples=300, deadline=None)
def test_a_header_is_byte_for_byte_that_of_the_formats_own_library(
    tensors: dict[str, tuple[str, list[int]]], metadata: dict[str, str]
) -> None:
    whole = _by_library(tensors, metadata)
    head = encode_header(_placed(tensors), metadata, keep_empty=True)
    assert whole[: len(head)] == head
    assert len(whole) - len(head) == sum(each.bytes for each in _placed(tensors).values())


@given(_tensors, strategies.dictionaries(strategies.text(max_size=12), strategies.text(max_size=20)))
@settings(max_examples=300, deadline=None)
def test_what_was_written_is_read_back(
    tensors: dict[str, tuple[str, list[int]]], metadata: dict[str, str]
) -> None:
    placed = _placed(tensors)
    head = encode_header(placed, metadata)
    size = sum(each.bytes for each in placed.values())
    assert len(head) % 8 == 0
    assert header_length(head[:8], len(head) + size) == len(head) - 8
    assert parse_header(head[8:], size) == (placed, metadata)
    assert len(deserialize(head + bytes(size))) == len(placed)  # type: ignore[no-untyped-call]


def test_every_type_of_the_format_has_its_place_in_the_order_of_the_library() -> None:
    tensors = {dtype.lower(): (dtype, [2]) for dtype in _TORCH_NAMES}
    names = [name for name, _ in deserialize(_by_library(tensors, {}))]  # type: ignore[no-untyped-call]
    assert sorted(names) == sorted(tensors)
    assert encode_header(_placed(tensors), {}, keep_empty=True) in _by_library(tensors, {})
    assert set(DTYPE_BITS) - set(_TORCH_NAMES) == {"F4", "F6_E2M3", "F6_E3M2"}


def test_a_header_without_metadata_has_none() -> None:
    assert b"__metadata__" not in encode_header({}, {})
    assert b'{"__metadata__":{}}' in encode_header({}, {}, keep_empty=True)


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [("F32", [2, 3], 24), ("BF16", [], 2), ("F4", [2], 1), ("F6_E2M3", [4], 3), ("U8", [0, 7], 0)],
)
def test_the_size_of_data_follows_from_type_and_shape(dtype: str, shape: Sequence[int], size: int) -> None:
    assert data_bytes(dtype, shape) == size


@pytest.mark.parametrize(
    ("dtype", "shape", "why"),
    [
        ("F99", [1], "unknown type"),
        ("F4", [3], "end within a byte"),
        ("U8", [2**40, 2**40], "impossible shape"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(dtype: str, shape: list[int], why: str) -> None:
    with pytest.raises(HeaderInvalid, match=why):
        data_bytes(dtype, shape)


def test_a_type_that_is_unknown_has_no_place_in_the_order() -> None:
    with pytest.raises(HeaderInvalid, match="unknown type"):
        library_order("F99", "x")


def test_texts_that_are_no_unicode_are_refused() -> None:
    with pytest.raises(HeaderInvalid, match="Unicode"):
        encode_header({}, {"path": "\udcff"})


def test_a_header_longer_than_the_format_allows_is_refused_before_it_is_written() -> None:
    with pytest.raises(HeaderInvalid, match="longer than the format allows"):
        encode_header({}, {"x": "y" * MAX_HEADER_BYTES})


@pytest.mark.parametrize(
    ("start", "size", "why"),
    [
        (b"", 0, "empty"),
        (b"1234", 4, "too short"),
        (struct.pack("<Q", 100_000_001), 10**9, "too long"),
        (struct.pack("<Q", 93), 100, "ends within its header"),
    ],
)
def test_a_length_that_cannot_be_is_refused(start: bytes, size: int, why: str) -> None:
    with pytest.raises(HeaderInvalid, match=why):
        header_length(start, size)
