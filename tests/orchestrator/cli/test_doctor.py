from pathlib import Path

from tests.orchestrator.cli.command import lorakeet


def test_a_healthy_installation_is_described_and_tried() -> None:
    done = lorakeet("doctor", "--json")
    (report,) = done.of("report")
    assert done.code == 0, report["problems"]
    assert report["kernel_version"]
    assert {"torch", "numpy", "pillow"} <= report["engines"].keys()
    probes = {probe["name"]: probe for probe in report["probes"]}
    assert probes["onnxruntime"]["loads"] and "CPUExecutionProvider" in probes["onnxruntime"]["providers"]
    assert probes["torch"]["loads"] and "cpu" in probes["torch"]["providers"]
    assert [device["kind"] for device in report["devices"]][-1] == "cpu"
    assert report["disk_free"] > 0


def test_people_get_words() -> None:
    done = lorakeet("doctor")
    assert done.code == 0
    assert done.stdout.startswith("Lorakeet ")
    assert done.stdout.rstrip().endswith("No problems found.")


def test_a_kernel_that_does_not_start_is_a_problem_with_its_mending(tmp_path: Path) -> None:
    done = lorakeet("doctor", "--json", env={"LORAKEET_KERNEL": str(tmp_path / "none")})
    (report,) = done.of("report")
    assert done.code == 7
    (problem,) = [each for each in report["problems"] if each["kind"] == "kernel_unavailable"]
    assert str(tmp_path / "none") in problem["message"]
    assert "LORAKEET_KERNEL" in problem["command"]


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
