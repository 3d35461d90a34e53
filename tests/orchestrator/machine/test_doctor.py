"""What `doctor` finds, apart from the words of the command, which `cli/test_doctor.py` reads."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from contract.methods.control import EngineProbe, ProbeResult
from contract.notifications import Device, KernelProblem, KernelState
from orchestrator.machine import doctor


def _found(*engines: EngineProbe, gpu: bool = False, **state: Any) -> ProbeResult:
    devices = [Device(id="cuda:0", kind="cuda", name="GPU")] * gpu + [Device(id="cpu", kind="cpu", name="c")]
    return ProbeResult(
        engines=list(engines),
        state=KernelState(**{"status": "ready", "devices": devices, "engines": {}, **state}),
    )


def _works_on(name: str, *providers: str) -> EngineProbe:
    return EngineProbe(name=name, version="1", loads=True, providers=list(providers))


def test_little_space_and_no_disk_at_all_are_problems_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(doctor._disk_problems("/h", 2**40)) == []
    (little,) = doctor._disk_problems("/h", 2**30)
    assert (little.kind, little.command) == ("disk_full", None)
    assert "1.0 GiB" in little.message and "--data DIR" in str(little.hint)

    def no_such_drive(path: Path) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(shutil, "disk_usage", no_such_drive)
    report = doctor._host(Path("/on/a/drive"))
    assert [problem.kind for problem in report.problems] == ["file_missing"]
    assert report.disk_free is None


@pytest.mark.parametrize(
    ("installed", "command"),
    [
        (
            ["numpy", "onnxruntime", "onnxruntime-extensions"],
            'pip uninstall -y onnxruntime && pip install --force-reinstall "onnxruntime-gpu[cuda,cudnn]"',
        ),
        (["onnxruntime-gpu"], 'pip install "onnxruntime-gpu[cuda,cudnn]"'),
    ],
)
def test_the_way_to_the_gpu_never_leads_to_two_onnx_runtimes(installed: list[str], command: str) -> None:
    engines = dict.fromkeys(installed, "1")
    found = _found(_works_on("onnxruntime", "CPUExecutionProvider"), gpu=True, engines=engines)
    (problem,) = doctor._not_working(found)
    assert problem.command == command


def test_an_engine_that_only_a_newer_kernel_knows_is_named_without_a_command() -> None:
    (problem,) = doctor._not_working(_found(_works_on("newer", "cpu"), gpu=True))
    assert "newer runs on the CPU" in problem.message
    assert problem.command is None


def test_without_a_gpu_the_cpu_is_no_problem() -> None:
    assert list(doctor._not_working(_found(_works_on("torch", "cpu")))) == []


def test_what_the_kernel_has_found_already_is_not_said_twice() -> None:
    twice = KernelProblem(kind="dependency_conflict", message="Both are installed.", command="pip …")
    engine = EngineProbe(name="onnxruntime", version="1", loads=False, message="Both are installed.")
    assert list(doctor._not_working(_found(engine, problems=[twice]))) == []


def test_a_broken_engine_is_installed_anew_and_never_as_a_second_onnx_runtime() -> None:
    engine = EngineProbe(name="onnxruntime", version="1", loads=False, message="It fails to load.")
    (problem,) = doctor._not_working(_found(engine, engines={"onnxruntime": "1", "torch": "2"}))
    assert problem.command == (
        'pip uninstall -y onnxruntime && pip install --force-reinstall -e ".[kernel]" -c constraints.txt'
    )
    (problem,) = doctor._not_working(_found(engine))
    assert problem.command == 'pip install --force-reinstall -e ".[kernel]" -c constraints.txt'


@pytest.mark.anyio
async def test_settings_that_are_wrong_are_a_finding_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("[kernel]\ncommand = 5\n", encoding="utf-8")
    report = await doctor.examine(tmp_path)
    assert "settings_invalid" in [each.kind for each in report.problems]
    assert report.kernel_version is None


@pytest.mark.anyio
async def test_a_report_is_good_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "settings.toml").write_text("broken", encoding="utf-8")
    asked = doctor.Doctor(tmp_path)
    first = await asked.report()
    assert await asked.report() is first
    monkeypatch.setattr("time.monotonic", lambda: float("inf"))
    assert await asked.report() is not first
