"""One kernel and the small models, made once for all proofs."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.kernel_process import KernelProcess
from tests.proofs.model import Model
from trainer.fixtures import FAMILIES, write


class Surgeon:
    """A real kernel; `run` gives the outcome of a job and the file that it made."""

    def __init__(self, kernel: KernelProcess, folder: Path) -> None:
        self._kernel = kernel
        self._folder = folder
        self._numbers = itertools.count()

    def run(self, method: str, settings: Mapping[str, Any], file: Path | None = None) -> "Made":
        """Raises AssertionError with the error of the kernel and what it wrote last."""
        number = next(self._numbers)
        made = self._folder / f"made-{number}.safetensors"
        inputs = {} if file is None else {"inputs": {"file": str(file)}}
        params = {
            "job_id": f"proof_{number}",
            "v": 1,
            **inputs,
            "outputs": {"file": str(made)},
            "settings": dict(settings),
        }
        response = self._kernel.request(method, params, timeout=50)
        assert "result" in response, f"{response}\n{self._kernel.stderr[-2000:]}"
        return Made(made, response["result"])

    def resize(self, file: Path, **settings: Any) -> "Made":
        return self.run("resize", settings, file)

    def merge(self, kind: str, **settings: Any) -> "Made":
        return self.run("merge", {"type": kind, **settings})


class Made(NamedTuple):
    """A new file and what the kernel said of it."""

    file: Path
    outcome: Mapping[str, Any]

    @property
    def error(self) -> float:
        """The stated relative Frobenius error of all ΔW together."""
        stated = self.outcome["error"]
        assert isinstance(stated, float)
        return stated


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proofs")


@pytest.fixture(scope="session")
def surgeon(folder: Path) -> Iterator[Surgeon]:
    with KernelProcess() as kernel:
        kernel.initialize([folder])
        yield Surgeon(kernel, folder)


@pytest.fixture(scope="session")
def sd15(folder: Path) -> Model:
    return Model(write("sd15", folder, dtype="fp32"))


@pytest.fixture(scope="session")
def sdxl(folder: Path) -> Model:
    return Model(write("sdxl", folder, dtype="fp32"))


@pytest.fixture(scope="session", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Model:
    """Each of them."""
    found: Model = request.getfixturevalue(request.param)
    return found
