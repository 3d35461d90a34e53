"""What is loaded when: nothing heavy before a job needs it, and torch not at all for tagging."""

import os
import sys
import textwrap
from pathlib import Path

import pytest

from tests.builders.pictures import ZOO, write
from tests.kernel_process import KernelProcess

HEAVY = (
    "torch",
    "onnxruntime",
    "numpy",
    "PIL",
    "diffusers",
    "transformers",
    "huggingface_hub",
    "safetensors",
)
#: Files of these stand in the map of a process that has loaded them.
LIBRARIES = ("libtorch", "/torch/", "onnxruntime", "/numpy/", "/PIL/")

RECORDER = """
    import os, sys

    with open(os.environ["IMPORTED"], "a", encoding="utf-8") as file:
        pass

    def record(event, args, _open=os.open, _write=os.write):
        if event == "import":
            fd = _open(os.environ["IMPORTED"], os.O_WRONLY | os.O_APPEND)
            _write(fd, f"{args[0]}\\n".encode())
            os.close(fd)

    sys.addaudithook(record)
"""


def packages(imported: Path) -> set[str]:
    return {line.partition(".")[0] for line in imported.read_text(encoding="utf-8").split()}


def test_imports_come_only_when_they_are_needed(tmp_path: Path, demo_tagger: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(RECORDER), encoding="utf-8")
    imported = tmp_path / "imported"
    (image,) = write(tmp_path, [ZOO[0]])
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with KernelProcess({"PYTHONPATH": path, "IMPORTED": str(imported)}) as kernel:
        assert kernel.request("ping")["error"]["code"] == -32002
        before = packages(imported)
        assert "msgspec" in before
        assert before.isdisjoint({"jsonrpcserver", "anyio", "asyncio", *HEAVY})

        kernel.initialize(roots=[tmp_path, demo_tagger])
        while kernel.receive().get("method") != "kernel/state":
            pass
        idle = packages(imported)
        assert {"jsonrpcserver", "anyio"} <= idle
        assert idle.isdisjoint(HEAVY)

        params = {
            "job_id": "a",
            "v": 2,
            "inputs": {"images": [str(image)]},
            "settings": {"model": {"path": str(demo_tagger)}},
        }
        assert kernel.request("tag", params)["result"]["tagged"] == 1
        tagging = packages(imported)
        assert {"onnxruntime", "numpy", "PIL"} <= tagging
        assert tagging.isdisjoint({"torch", "diffusers", "transformers", "huggingface_hub", "safetensors"})


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_libraries_in_memory_are_those_that_jobs_needed(tmp_path: Path, demo_tagger: Path) -> None:
    (image,) = write(tmp_path, [ZOO[0]])
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        while kernel.receive().get("method") != "kernel/state":
            pass
        maps = Path(f"/proc/{kernel.pid}/maps").read_text(encoding="utf-8")
        assert [name for name in LIBRARIES if name in maps] == []

        params = {
            "job_id": "a",
            "v": 2,
            "inputs": {"images": [str(image)]},
            "settings": {"model": {"path": str(demo_tagger)}},
        }
        assert kernel.request("tag", params)["result"]["tagged"] == 1
        maps = Path(f"/proc/{kernel.pid}/maps").read_text(encoding="utf-8")
        assert "onnxruntime" in maps
        assert "torch" not in maps


def test_a_missing_library_is_named_with_the_command_that_installs_it(
    tmp_path: Path, demo_tagger: Path
) -> None:
    hide = """
        import sys

        class Hidden:
            def find_spec(self, name, path=None, target=None):
                if name == "onnxruntime":
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, Hidden())
    """
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(hide), encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with KernelProcess({"PYTHONPATH": path}) as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        params = {
            "job_id": "a",
            "v": 2,
            "inputs": {"images": [str(tmp_path / "x.png")]},
            "settings": {"model": {"path": str(demo_tagger)}},
        }
        error = kernel.request("tag", params)["error"]
        assert (error["code"], error["data"]["kind"]) == (4003, "dependency_missing")
        assert "onnxruntime" in error["message"] and "start.py doctor" in error["data"]["hint"]
