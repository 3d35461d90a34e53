"""Whether an exception says that memory ran out. The libraries that raise such need not be loaded for it."""

import errno
from typing import Final

#: What their texts have in them: torch on CPUs, CUDA, ROCm and Metal, cuBLAS and cuDNN, onnxruntime, C++.
_WORDS: Final = (
    "out of memory",
    "can't allocate memory",
    "failed to allocate memory",
    "_status_alloc_failed",
    "bad_alloc",
)
#: Its exceptions share no base; each lies in a module of this package.
_ONNXRUNTIME: Final = "onnxruntime."


def is_memory(error: BaseException) -> bool:
    """Whether it says that memory ran out. Torch has a class for GPUs, and for CPUs only a text."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if not isinstance(error, RuntimeError) and not type(error).__module__.startswith(_ONNXRUNTIME):
        return False
    text = str(error).lower()
    return any(words in text for words in _WORDS)
