from pathlib import Path
from typing import Any

from orchestrator.cli import doctor
from orchestrator.machine.doctor import Finding, Report
from tests.orchestrator.cli.command import lorakeet

#: What depends on the machine that runs the tests, not on Lorakeet: a small disk, a GPU without its build.
_OF_THE_MACHINE = {"disk_full", "device_lost"}


def _report(**given: Any) -> Report:
    usual = {"lorakeet": "1", "python": "3", "platform": "x", "packages": {}, "home": "/h", "disk_free": 1}
    return Report(**{**usual, **given})


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


def test_a_disk_that_is_not_there_is_said() -> None:
    assert "Data: /h, no disk" in list(doctor._lines(_report(disk_free=None)))


def test_what_can_be_pasted_and_what_is_prose_are_told_apart() -> None:
    problem = Finding(kind="k", message="It is broken.", command="pip install x", hint="Run it there.")
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
