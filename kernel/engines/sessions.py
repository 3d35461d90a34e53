"""ONNX sessions on whatever really works here.

What a session runs on is what the session says. The list of available providers tells only what was
compiled in.
"""

import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import onnxruntime  # ships no types

from contract.errors import DependencyConflict, LoadFailed, LorakeetError, ModelNotOnnx, OutOfMemory
from kernel.cores import cores
from kernel.installation import conflict, gpus, onnx_runtimes
from kernel.trace import report
from trainer.shortage import is_memory

CPU: Final = "CPUExecutionProvider"
_CUDA: Final = "CUDAExecutionProvider"
#: Sessions on a CPU that run side by side at most; each holds the activations of one batch.
_MAX_RUNNERS: Final = 4
_ONLY_ERRORS: Final = 3

onnxruntime.set_default_logger_severity(_ONLY_ERRORS)


class Plan(NamedTuple):
    """How to use the cores: `runners` calls of `run` side by side, each on `threads` threads.

    Several single-threaded runs do more pictures a second on a CPU than one run on all cores, since they
    never wait for each other. A GPU takes one batch after the other.
    """

    runners: int
    threads: int


def plan_for(provider: str, available: int | None = None) -> Plan:
    """The plan for a provider on `available` cores."""
    available = available or cores()
    runners = min(available, _MAX_RUNNERS) if provider == CPU else 1
    return Plan(runners, max(1, available // runners))


def wanted_providers() -> list[str]:
    """Providers worth asking for, best first: compiled in, and with a device that answers."""
    compiled = onnxruntime.get_available_providers()
    with_device: dict[str, Callable[[], bool]] = {
        _CUDA: lambda: bool(gpus()),
        "DmlExecutionProvider": lambda: sys.platform == "win32",
    }
    return [name for name, has_device in with_device.items() if name in compiled and has_device()] + [CPU]


def open_session(path: str, providers: list[str] | None = None) -> Any:
    """An `InferenceSession` for the model at `path`.

    Raises DependencyConflict where two onnxruntime distributions are installed, ModelNotOnnx, OutOfMemory
    and LoadFailed.
    """
    if both := conflict(onnx_runtimes()):
        raise DependencyConflict(both.message, hint=both.command)
    providers = providers or wanted_providers()
    if _CUDA in providers:
        onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = plan_for(providers[0]).threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait take the cores from decoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        raise _explained(error, path) from error


def run_error(error: Exception, path: str) -> LorakeetError:
    """The typed error for an exception of `session.run`."""
    if is_memory(error):
        return OutOfMemory("The model ran out of memory.", where=path, hint="Use a smaller batch_size.")
    return LoadFailed(f"The model failed while running (trace {report(error)}).", where=path)


def _explained(error: Exception, path: str) -> LorakeetError:
    if is_memory(error):
        return OutOfMemory("There is not enough memory to load the model.", where=path)
    if type(error).__name__ == "InvalidProtobuf":
        return ModelNotOnnx("The file is not an ONNX model.", where=path)
    return LoadFailed(f"onnxruntime cannot load the model (trace {report(error)}).", where=path)
