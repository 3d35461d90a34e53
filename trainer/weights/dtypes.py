"""The types of numbers: as safetensors writes them, as torch has them, and as people write them."""

from typing import TYPE_CHECKING, Final

from contract.rules.tensor_header import DTYPE_BITS

if TYPE_CHECKING:
    import torch

#: The code of a safetensors file → the name of torch's type. Torch has no numbers of four or six bits.
TORCH_NAMES: Final = {
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
#: The short names of settings → codes.
SHORT_NAMES: Final = {
    "fp64": "F64",
    "fp32": "F32",
    "fp16": "F16",
    "bf16": "BF16",
    "fp8_e4m3fn": "F8_E4M3",
    "fp8_e5m2": "F8_E5M2",
}
#: The codes of real floating-point numbers.
FLOATS: Final = frozenset(code for code in DTYPE_BITS if code.startswith(("F", "BF")))

_CODES: Final = {name: code for code, name in TORCH_NAMES.items()}
_SHORT: Final = {code: name for name, code in SHORT_NAMES.items()}


def number_bytes(code: str) -> int:
    """Bytes of one number of a type that has whole bytes."""
    return DTYPE_BITS[code] // 8


def short_name(code: str) -> str:
    """`fp16` for F16; the code in lower case where settings have no name for it."""
    return _SHORT.get(code, code.lower())


def torch_dtype(code: str) -> "torch.dtype":
    """Torch's type of a code. Raises KeyError where torch has none."""
    import torch

    dtype = getattr(torch, TORCH_NAMES[code])
    assert isinstance(dtype, torch.dtype)
    return dtype


def code_of(dtype: "torch.dtype") -> str:
    """The code of torch's type. Raises KeyError where safetensors has none."""
    return _CODES[str(dtype).removeprefix("torch.")]


def bytes_of(tensor: "torch.Tensor") -> memoryview:
    """The numbers of a tensor as bytes, in row-major order, for TensorWriter.write.

    Nothing is copied where the tensor is contiguous and in the CPU's memory. Not for writing.
    """
    import torch

    flat = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
    return flat.numpy().data
