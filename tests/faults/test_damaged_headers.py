"""Headers of safetensors files with anything wrong in them: a typed error that names the file, or exactly
what the header says, in little memory. The format's own library is asked what it makes of the same bytes."""

import json
import math
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError, deserialize

from contract.errors import WeightsDamaged, WeightsFormat
from contract.rules.tensor_header import Tensor
from tests.faults.damage import damaged, whole
from tests.faults.repetition import numbers
from tests.faults.report import Report, Trial
from trainer.weights.tensor_file import TensorFile, open_weights

#: Files of one trial; 100 trials are 50,000.
FILES = 500
#: What reading a header may take: so much, and so many times the file.
BASE_BYTES, TIMES = 500_000, 20
#: Sizes of more than 63 bits.
_HUGE = (str(2**63).encode(), str(2**64 - 1).encode())


@pytest.fixture
def traced_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


@numbers(few=1, many=100)
def test_a_damaged_header_is_refused_or_read_exactly(
    number: int, tmp_path: Path, traced_memory: None, report: Report
) -> None:
    path = tmp_path / "x.safetensors"
    with report.trial("H1 headers", number) as trial:
        for index in range(FILES):
            content = damaged(trial.chance)
            trial.note(index=index, content=content[:4000])
            path.write_bytes(content)
            trial.count("taken" if _try(path, content, trial) else "refused")
    assert trial.counts["taken"] > FILES // 50 and trial.counts["refused"] > FILES // 2


def _try(path: Path, content: bytes, trial: Trial) -> bool:
    """Whether it is taken."""
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    try:
        with open_weights(str(path)) as file:
            _assert_bounded(before, len(content))
            _assert_exact(file, content)
    except (WeightsDamaged, WeightsFormat) as refused:
        _assert_bounded(before, len(content))
        assert (refused.where, refused.__cause__) == (str(path), None)
        assert str(path) in refused.message
        # The library takes sizes that no program has numbers for, in tensors without any.
        assert not _is_taken_by_library(content) or any(size in content for size in _HUGE)
        return False
    if not _is_taken_by_library(content):
        trial.count("taken, and not by the library")
        assert _is_odd(content) or any(map(_is_vast, file.header.tensors.values()))
    return True


def _assert_bounded(before: int, size: int) -> None:
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before < BASE_BYTES + TIMES * size


def _assert_exact(file: TensorFile, content: bytes) -> None:
    """Every field as it stands in the JSON, and every tensor the bytes that its offsets name."""
    (length,) = struct.unpack("<Q", content[:8])
    said: dict[str, Any] = json.loads(content[8 : 8 + length])
    assert file.header.metadata == (said.pop("__metadata__", None) or {})
    assert set(file.names) == set(file.header.tensors) == set(said)
    data = content[8 + length :]
    for name, tensor in file.header.tensors.items():
        start, end = said[name]["data_offsets"]
        assert (tensor.dtype, tensor.shape) == (said[name]["dtype"], said[name]["shape"])
        assert tensor.data_offsets == (start, end)
        assert bytes(file.raw(name)) == data[start:end]


def _is_taken_by_library(content: bytes) -> bool:
    try:
        deserialize(content)  # type: ignore[no-untyped-call]
    except SafetensorError:
        return False
    return True


def _is_vast(tensor: Tensor) -> bool:
    """Whether it is empty, but for a size of 0 would be larger than anything: the library looks at the sizes
    in their order, and refuses some of these."""
    return 0 in tensor.shape and math.prod(size for size in tensor.shape if size) >= 2**64


def _is_odd(content: bytes) -> bool:
    """Whether an object has a name twice, or a number is -0: the library refuses both, and there is no harm
    in them, as every byte must belong to exactly one tensor."""
    twice: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice.extend(name for name in set(names) if names.count(name) > 1)
        return dict(pairs)

    (length,) = struct.unpack("<Q", content[:8])
    json.loads(content[8 : 8 + length], object_pairs_hook=look)
    return bool(twice) or b"-0" in content


def test_a_file_with_nothing_wrong_is_taken(tmp_path: Path) -> None:
    """Else the trials would try nothing."""
    header, data = whole()
    raw = json.dumps(header).encode()
    content = struct.pack("<Q", len(raw)) + raw + data
    (tmp_path / "x.safetensors").write_bytes(content)
    with open_weights(str(tmp_path / "x.safetensors")) as file:
        _assert_exact(file, content)
    assert _is_taken_by_library(content)


def test_a_header_of_a_hundred_megabytes_is_read_and_a_longer_one_is_not(
    tmp_path: Path, traced_memory: None
) -> None:
    """The second is refused by its length alone."""
    path = tmp_path / "x.safetensors"
    most = 100_000_000
    path.write_bytes(struct.pack("<Q", most) + b"{}" + b" " * (most - 2))
    tracemalloc.reset_peak()
    with open_weights(str(path)) as file:
        assert file.names == []
    _, peak = tracemalloc.get_traced_memory()
    assert peak < 4 * most
    path.write_bytes(struct.pack("<Q", most + 1) + b"{}" + b" " * (most - 1))
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    with pytest.raises(WeightsDamaged, match="too long"):
        open_weights(str(path))
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before < BASE_BYTES


def test_a_header_of_a_hundred_megabytes_of_nonsense_is_refused_in_bounded_memory(
    tmp_path: Path, traced_memory: None
) -> None:
    path = tmp_path / "x.safetensors"
    most = 100_000_000
    shape = b'{"x":{"dtype":"F16","data_offsets":[0,0],"shape":[' + b"9," * (most // 2 - 30)
    for content in (b"[" * most, b'{"a' * (most // 3), shape.ljust(most)):
        path.write_bytes(struct.pack("<Q", len(content)) + content)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        with pytest.raises(WeightsDamaged, match="damaged"):
            open_weights(str(path))
        _, peak = tracemalloc.get_traced_memory()
        assert peak - before < 12 * most
