"""Trying the engines: what loads, and what a session really runs on."""

import importlib
from collections.abc import Callable
from importlib import metadata, resources
from typing import Final

from contract.errors import LorakeetError
from contract.methods.control import EngineProbe
from kernel.installation import onnx_runtimes
from kernel.trace import report


def probe_engines() -> list[EngineProbe]:
    """Every engine, tried. Takes seconds: torch is among them."""
    return [_probe(name, attempt) for name, attempt in _ENGINES.items()]


def _probe(name: str, attempt: Callable[[], list[str]]) -> EngineProbe:
    version = _version(name)
    try:
        return EngineProbe(name=name, version=version, loads=True, providers=attempt())
    except ImportError:
        return EngineProbe(name=name, version=version, loads=False, message="It is not installed, or broken.")
    except LorakeetError as error:
        return EngineProbe(name=name, version=version, loads=False, message=error.message)
    except Exception as error:  # noqa: BLE001  whatever a broken library raises, it does not load
        text = f"It fails to load (trace {report(error)})."
        return EngineProbe(name=name, version=version, loads=False, message=text)


def _onnxruntime() -> list[str]:
    from kernel.engines import sessions

    model = resources.files("kernel") / "data" / "demo-tagger" / "model.onnx"
    with resources.as_file(model) as path:
        providers: list[str] = sessions.open_session(str(path)).get_providers()
    return providers


def _torch() -> list[str]:
    torch = importlib.import_module("torch")
    cuda = (
        [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*cuda, *mps, "cpu"]


def _version(name: str) -> str | None:
    if name == "onnxruntime":
        return next(iter(onnx_runtimes().values()), None)
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


_ENGINES: Final = {"onnxruntime": _onnxruntime, "torch": _torch}
