import shutil
from pathlib import Path
from typing import Any

import pytest

from contract.methods.control import EngineProbe, ProbeResult
from contract.notifications import Device, KernelProblem, KernelState
from orchestrator.cli import doctor
from orchestrator.cli.doctor import Problem, Report
from tests.orchestrator.cli.command import lorakeet

#: What depends on the machine that runs the tests, not on Lorakeet: a small disk, a GPU without its build.
_OF_THE_MACHINE = {"disk_full", "device_lost"}


def _report(**given: Any) -> Report:
    usual = {"lorakeet": "1", "python": "3", "platform": "x", "packages": {}, "home": "/h", "disk_free": 1}
    return Report(**{**usual, **given})


def _found(*engines: EngineProbe, gpu: bool = False, **state: Any) -> ProbeResult:
    devices = [Device(id="cuda:0", kind="cuda", name="GPU")] * gpu + [Device(id="cpu", kind="cpu", name="c")]
    return ProbeResult(
        engines=list(engines),
        state=KernelState(**{"status": "ready", "devices": devices, "engines": {}, **state}),
    )


def _works_on(name: str, *providers: str) -> EngineProbe:
    return EngineProbe(name=name, version="1", loads=True, providers=list(providers))


def test_an_installation_is_described_and_tried() -> None:
    done = lorakeet("doctor", "--json")
    (report,) = done.of("report")
    assert {problem["kind"] for problem in report["problems"]} <= _OF_THE_MACHINE
    assert done.code == (7 if report["problems"] else 0)
    assert report["kernel_version"]
    assert {"torch", "numpy", "pillow"} <= report["engines"].keys()
    probes = {probe["name"]: probe for probe in report["probes"]}
    assert probes["onnxruntime"]["loads"] and "CPUExecutionProvider" in probes["onnxruntime"]["providers"]
    assert probes["torch"]["loads"] and "cpu" in probes["torch"]["providers"]
    assert [device["kind"] for device in report["devices"]][-1] == "cpu"
    assert report["disk_free"] > 0


def test_people_get_words() -> None:
    done = lorakeet("doctor")
    assert done.code in (0, 7)
    assert done.stdout.startswith("Lorakeet ")
    assert "No problems found." in done.stdout or "Problem: " in done.stdout


def test_without_problems_the_words_end_with_that() -> None:
    assert list(doctor._lines(_report()))[-1] == "No problems found."


def test_what_can_be_pasted_and_what_is_prose_are_told_apart() -> None:
    problem = Problem(kind="k", message="It is broken.", command="pip install x", hint="Run it there.")
    lines = list(doctor._lines(_report(problems=[problem])))
    assert lines[-3:] == ["Problem: It is broken.", "  mend it: pip install x", "  Run it there."]


def test_a_kernel_that_does_not_start_is_a_problem_with_a_hint(tmp_path: Path) -> None:
    done = lorakeet("doctor", "--json", env={"LORAKEET_KERNEL": f'"{tmp_path / "none"}"'})
    (report,) = done.of("report")
    assert done.code == 7
    (problem,) = [each for each in report["problems"] if each["kind"] == "kernel_unavailable"]
    assert str(tmp_path / "none") in problem["message"]
    assert problem["command"] is None
    assert "LORAKEET_KERNEL" in problem["hint"]


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
    assert "Data: " in "".join(doctor._lines(report))


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


def test_two_onnx_runtimes_are_a_problem_with_the_command_that_mends_it(tmp_path: Path) -> None:
    """A second distribution, as pip leaves it, on the kernel's path."""
    other = tmp_path / "site" / "onnxruntime-1.31.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: onnxruntime\nVersion: 1.31.0\n", encoding="utf-8"
    )
    done = lorakeet("doctor", "--json", env={"PYTHONPATH": _also(tmp_path / "site")})
    (report,) = done.of("report")
    assert done.code == 7
    (problem,) = [each for each in report["problems"] if each["kind"] == "dependency_conflict"]
    assert "onnxruntime and onnxruntime-gpu" in problem["message"]
    assert problem["command"].startswith("pip uninstall -y onnxruntime onnxruntime-gpu && pip install")


def test_a_job_is_refused_where_two_onnx_runtimes_are_installed(
    photographs: Path, demo_tagger: Path, tmp_path: Path
) -> None:
    other = tmp_path / "site" / "onnxruntime-1.31.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: onnxruntime\nVersion: 1.31.0\n", encoding="utf-8"
    )
    done = lorakeet(
        "tag", photographs, "--model", demo_tagger, "--json", env={"PYTHONPATH": _also(tmp_path / "site")}
    )
    assert done.code == 6
    assert done.of("error")[0]["error"]["data"]["kind"] == "dependency_conflict"


def _also(folder: Path) -> str:
    import os

    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
