"""The types of numbers by their three names."""

import torch

from contract.rules.tensor_header import DTYPE_BITS
from trainer.weights.dtypes import (
    FLOATS,
    SHORT_NAMES,
    TORCH_NAMES,
    bytes_of,
    code_of,
    number_bytes,
    short_name,
    torch_dtype,
)


def test_every_code_is_a_type_of_torch_of_its_size_and_back() -> None:
    for code in TORCH_NAMES:
        assert code_of(torch_dtype(code)) == code
        assert torch_dtype(code).itemsize == number_bytes(code) == DTYPE_BITS[code] // 8


def test_the_floats_are_those_that_torch_calls_so() -> None:
    assert {code for code in TORCH_NAMES if torch_dtype(code).is_floating_point} == FLOATS & set(TORCH_NAMES)


def test_settings_name_types_shortly() -> None:
    assert {short_name(code): code for code in SHORT_NAMES.values()} == SHORT_NAMES
    assert short_name("I64") == "i64"


def test_the_bytes_of_a_tensor_are_those_of_its_rows_and_uncopied_where_they_lie_so() -> None:
    tensor = torch.arange(6, dtype=torch.int16).reshape(2, 3)
    assert bytes(bytes_of(tensor)) == bytes([0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0])
    assert bytes(bytes_of(tensor.T)) == bytes([0, 0, 3, 0, 1, 0, 4, 0, 2, 0, 5, 0])
    assert bytes(bytes_of(torch.tensor(1.0, dtype=torch.bfloat16))) == b"\x80\x3f"
    assert bytes(bytes_of(torch.zeros(0, 3))) == b""
    view = bytes_of(tensor)
    tensor[0, 0] = 7
    assert view[0] == 7
