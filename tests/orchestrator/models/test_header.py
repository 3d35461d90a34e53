"""The reader of headers: what it says, what it refuses, and that nothing else ever comes out of it."""

import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies
from safetensors import SafetensorError, deserialize

from orchestrator.models.header import MAX_HEADER_BYTES, HeaderInvalid, parse_header, read_header
from tests.orchestrator.models.files import header_of, in_bytes, write_model

_TENSORS = {"a.weight": ("F16", [2, 3]), "b": ("BF16", []), "empty": ("F32", [0, 5]), "z": ("I64", [2])}
_METADATA = {"modelspec.title": "A title", "ss_output_name": "näme"}


def _parse(whole: bytes) -> Any:
    """As `read_header` would, without a file."""
    (length,) = struct.unpack("<Q", whole[:8])
    return parse_header(whole[8 : 8 + length], len(whole) - 8 - length)


def _reference(whole: bytes) -> bool:
    """Whether the format's own library takes it."""
    try:
        deserialize(whole)  # type: ignore[no-untyped-call]
    except SafetensorError:
        return False
    return True


def _file(tmp_path: Path, content: bytes) -> str:
    (tmp_path / "x.safetensors").write_bytes(content)
    return str(tmp_path / "x.safetensors")


def _refused(header: Any, data_bytes: int = 0) -> str:
    whole = in_bytes(header, data_bytes)
    assert not _reference(whole)
    with pytest.raises(HeaderInvalid) as refused:
        _parse(whole)
    return str(refused.value)


def test_a_header_is_read(tmp_path: Path) -> None:
    header = read_header(str(write_model(tmp_path / "m.safetensors", _TENSORS, _METADATA)))
    assert {name: (each.dtype, each.shape) for name, each in header.tensors.items()} == {
        name: (dtype, shape) for name, (dtype, shape) in _TENSORS.items()
    }
    assert header.metadata == _METADATA
    assert header.tensors["a.weight"].bytes == 12


def test_only_the_header_is_read(tmp_path: Path) -> None:
    huge = write_model(tmp_path / "huge.safetensors", {"x": ("F16", [1 << 30, 16])})
    assert huge.stat().st_size > 32 << 30
    assert list(read_header(str(huge)).tensors) == ["x"]


def test_a_header_may_be_padded_and_have_no_metadata() -> None:
    header, size = header_of(_TENSORS)
    raw = json.dumps(header).encode() + b"   "
    assert parse_header(raw, size).metadata == {}
    assert parse_header(json.dumps(header | {"__metadata__": None}).encode(), size).metadata == {}
    assert parse_header(b"{}", 0).tensors == {}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "It is empty."),
        (b"1234567", "too short"),
        (struct.pack("<Q", 3) + b"{}", "ends within its header"),
        (struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{}", "too long"),
        (struct.pack("<Q", 2**64 - 1), "too long"),
        (b"PK\x03\x04 a zip archive", "too long"),
        (struct.pack("<Q", 2) + b"[]", "damaged"),
        (struct.pack("<Q", 2) + b"\xff\xfe", "damaged"),
        (struct.pack("<Q", 0), "damaged"),
    ],
)
def test_what_is_no_such_file_is_refused_with_a_reason(content: bytes, why: str, tmp_path: Path) -> None:
    assert not _reference(content)
    with pytest.raises(HeaderInvalid, match=why):
        read_header(_file(tmp_path, content))


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_header(str(tmp_path / "none"))


def _with(**changes: Any) -> dict[str, Any]:
    return {"x": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4], **changes}}


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (_with(dtype="F99"), "unknown type, 'F99'"),
        (_with(dtype=5), "damaged"),
        (_with(shape=[5]), "does not fit its shape"),
        (_with(shape=[-4]), "damaged"),
        (_with(shape=[4.0]), "damaged"),
        (_with(shape="4"), "damaged"),
        (_with(shape=[2**62, 2**62]), "impossible shape"),
        (_with(data_offsets=[4, 0]), "does not fit"),
        (_with(data_offsets=[0]), "damaged"),
        (_with(data_offsets=[0, 4, 4]), "damaged"),
        (_with(data_offsets=[-4, 0]), "damaged"),
        (_with(data_offsets=[2**64, 2**64 + 4]), "damaged"),
        (_with(data_offsets=[1, 5]), "gaps"),
        (_with(dtype="F4", shape=[7]), "does not fit"),
        ({"x": None}, "damaged"),
        ({"x": {"dtype": "U8", "shape": [4]}}, "damaged"),
        ({**_with(), "__metadata__": {"a": 1}}, "damaged"),
        ({**_with(), "__metadata__": []}, "damaged"),
        ({**_with(), "y": {"dtype": "U8", "shape": [2], "data_offsets": [2, 4]}}, "overlap"),
    ],
)
def test_what_does_not_agree_is_refused(header: Any, why: str) -> None:
    assert why in _refused(header, 4)


def test_a_file_that_was_not_downloaded_to_its_end_says_how_much_is_missing() -> None:
    assert "3 bytes are missing" in _refused(_with(), 1)
    assert "2 bytes at its end" in _refused(_with(), 6)


def test_a_shape_of_millions_of_sizes_takes_no_time() -> None:
    raw = json.dumps(_with(shape=[2**62] * 1_000_000)).encode()
    with pytest.raises(HeaderInvalid, match="impossible"):
        parse_header(raw, 4)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(HeaderInvalid, match="damaged"):
        parse_header(b'{"x":' * 100_000, 0)


def _mutated(whole: bytes, chance: random.Random) -> bytes:
    """One to four bytes or pieces of the header changed, the length kept honest half of the time."""
    (length,) = struct.unpack("<Q", whole[:8])
    raw, data = bytearray(whole[8 : 8 + length]), whole[8 + length :]
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(raw)) if raw else 0
        match chance.randrange(6):
            case 0:
                raw[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                raw[at:at] = chance.choice([b"9", b"-", b"0", b'"', b"{", b"[", b",", b"null", b"1e9", b" "])
            case 2:
                del raw[at : at + chance.randint(1, 30)]
            case 3:
                raw[at:at] = raw[chance.randrange(len(raw) + 1) :][: chance.randint(1, 60)]
            case 4:
                raw = bytearray(bytes(raw).replace(*chance.choice(_SWAPS), 1))
            case _:
                data = data[: chance.randrange(len(data) + 2)] + b"\0" * chance.randrange(3)
    said = len(raw) if chance.random() < 0.9 else max(0, len(raw) + chance.randint(-9, 9))
    return struct.pack("<Q", said) + bytes(raw) + data


_SWAPS = [(b"F16", b"F32"), (b"[2, 3]", b"[3, 2]"), (b"[0, 5]", b"[5]"), (b"12", b"13"), (b"F16", b"F4")]


def _try_many(count: int, seed: int) -> tuple[int, int]:
    """Mutations taken and refused; every verdict must be that of the format's own library."""
    chance = random.Random(seed)
    header, size = header_of(_TENSORS, _METADATA)
    whole, taken = in_bytes(header, size), 0
    for number in range(count):
        mutant = _mutated(whole, chance)
        try:
            (length,) = struct.unpack("<Q", mutant[:8])
            if length > len(mutant) - 8:
                continue
            _parse(mutant)
            verdict = True
        except HeaderInvalid:
            verdict = False
        assert verdict == _reference(mutant) or _is_odd(mutant), (seed, number, mutant)
        taken += verdict
    return taken, count - taken


def _is_odd(whole: bytes) -> bool:
    """Whether an object has a name twice, or a number is -0, which the library refuses and we do not."""
    twice: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice.extend(name for name in set(names) if names.count(name) > 1)
        return dict(pairs)

    (length,) = struct.unpack("<Q", whole[:8])
    json.loads(whole[8 : 8 + length], object_pairs_hook=look)
    return bool(twice) or b"-0" in whole


def test_thousands_of_damaged_headers_are_judged_as_the_formats_own_library_judges_them() -> None:
    taken, refused = _try_many(8_000, seed=20_261_120)
    assert taken > 100 and refused > 1_000


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(8))
def test_very_many_damaged_headers_are_judged_alike(seed: int) -> None:
    _try_many(100_000, seed)


_json = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats(allow_nan=False)
    | strategies.text(max_size=5)
    | strategies.sampled_from(["F16", "U8", "dtype", "shape", "data_offsets", "__metadata__"]),
    lambda inner: (
        strategies.lists(inner, max_size=4)
        | strategies.dictionaries(
            strategies.sampled_from(["dtype", "shape", "data_offsets", "__metadata__", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(_json, strategies.integers(0, 20))
@settings(max_examples=300, deadline=None)
def test_any_json_is_judged_alike(value: Any, data_bytes: int) -> None:
    whole = in_bytes(value, data_bytes)
    try:
        _parse(whole)
        verdict = True
    except HeaderInvalid:
        verdict = False
    assert verdict == _reference(whole)


@given(strategies.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_described_or_refused(content: bytes) -> None:
    try:
        parse_header(content, 0)
    except HeaderInvalid as refused:
        assert str(refused).endswith(".")
