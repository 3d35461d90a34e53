"""Which exceptions say that memory ran out."""

import errno

import pytest

from trainer.shortage import is_memory


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


class Fail(Exception):
    """As onnxruntime's: of no base but this."""

    __module__ = "onnxruntime.capi.onnxruntime_pybind11_state"


#: Texts as the libraries write them, each the beginning of a longer one.
_TEXTS = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to",
    "CUDA out of memory. Tried to allocate 2.00 GiB.",
    "CUDA error: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "MPS backend out of memory (MPS allocated: 17.9 GB, other allocations: 100 KB).",
    "std::bad_alloc",
)


@pytest.mark.parametrize("text", _TEXTS)
def test_a_text_that_says_so_is_believed(text: str) -> None:
    assert is_memory(RuntimeError(text))
    assert is_memory(Fail(text))


@pytest.mark.parametrize(
    "error", [MemoryError(), OutOfMemoryError("no memory"), OSError(errno.ENOMEM, "Cannot allocate memory")]
)
def test_a_type_that_says_so_needs_no_text(error: Exception) -> None:
    assert is_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes cannot be multiplied"),
        ValueError("out of memory"),
        FileNotFoundError(errno.ENOENT, "No such file", "out of memory.txt"),
        OSError(errno.ENOSPC, "No space left on device"),
        Fail("no such node"),
    ],
)
def test_others_are_something_else(error: Exception) -> None:
    assert not is_memory(error)


def test_a_tensor_that_fits_into_no_memory() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError) as raised:
        torch.empty(10**15)
    assert is_memory(raised.value)
    assert is_memory(torch.OutOfMemoryError("CUDA"))
