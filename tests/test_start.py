"""start.py: what it decides, and in which order it does things. Nothing is installed here."""

import ast
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

import start

ROOT = Path(__file__).resolve().parent.parent


# --- old Pythons ---


def test_the_file_parses_on_an_old_python() -> None:
    source = (ROOT / "start.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 7))


def test_only_the_standard_library_is_imported() -> None:
    tree = ast.parse((ROOT / "start.py").read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


def test_newer_pythons_are_looked_for_by_the_names_of_the_system() -> None:
    assert start.python_commands(windows=False) == [["python3.13"], ["python3.12"], ["python3.11"]]
    assert start.python_commands(windows=True)[1] == ["py", "-3.12"]


def test_a_command_counts_as_python_only_when_it_runs() -> None:
    assert start.starts([sys.executable])
    assert not start.starts(["no-such-python-anywhere"])
    assert not start.starts([sys.executable, "-c", "raise SystemExit(1)"])


def test_an_old_python_hands_over_to_the_first_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(os, "name", "posix")
    monkeypatch.setattr(start, "starts", lambda command: command == ["python3.12"])
    monkeypatch.setattr(os, "execvp", lambda _, whole: called.append(whole))
    monkeypatch.setattr(sys, "argv", ["start.py", "doctor"])
    with pytest.raises(SystemExit):  # only because execvp came back
        start.run_on_newer_python()
    assert called[:1] == [["python3.12", os.path.abspath(start.__file__), "doctor"]]


def test_an_old_python_alone_says_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "starts", lambda _: False)
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer"):
        start.run_on_newer_python()


# --- routing ---


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ([], ["serve"]),
        (["--port", "7000"], ["serve", "--port", "7000"]),
        (["tag", "folder", "--json"], ["tag", "folder", "--json"]),
        (["doctor"], ["doctor"]),
        (["tag", "--help"], ["tag", "--help"]),
    ],
)
def test_what_is_not_a_test_goes_to_the_command_line(arguments: list[str], command: list[str]) -> None:
    plan = start.route(arguments)
    assert plan == start.Plan(("kernel",), command=("-P", "-m", "orchestrator.cli", *command))


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_ours_and_needs_no_set_up(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert start.main([option]) == 0
    assert "usage: python3 start.py" in capsys.readouterr().out


def test_test_runs_every_check_with_pytest_last() -> None:
    plan = start.route(["test", "-k", "wire"])
    assert plan is not None
    assert plan.packages == ("kernel", "dev")
    assert [check[1] for check in plan.checks] == ["ruff", "ruff", "mypy", "pytest"]
    assert plan.checks[-1] == ("-m", "pytest", "-k", "wire")


@pytest.mark.parametrize(
    ("arguments", "check"),
    [
        (["slow"], ("-m", "pytest", "-m", "slow")),
        (["faults", "-x"], ("-m", "pytest", "-m", "faults", "-x")),
        (["bench"], ("-m", "tests.bench")),
        (["bench", "framing"], ("-m", "tests.bench", "framing")),
    ],
)
def test_the_long_suites_run_alone(arguments: list[str], check: tuple[str, ...]) -> None:
    assert start.route_test(arguments) == (check,)


def test_checks_all_run_and_one_failure_fails_the_whole(capfd: pytest.CaptureFixture[str]) -> None:
    checks = [("-c", "raise SystemExit(3)"), ("-c", "print('second ran')")]
    assert start.run_checks(Path(sys.executable), checks) == 1
    assert "second ran" in capfd.readouterr().out
    assert start.run_checks(Path(sys.executable), checks[1:]) == 0


# --- the table of PyTorch builds ---

PLATFORMS = ("linux-x86_64", "linux-aarch64", "windows", "macos")
GPUS = ("nvidia", "nvidia-older", "amd", "none")


def no_gpu_needed() -> str:
    raise AssertionError("asked for the GPU without need")


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("gpu", GPUS)
def test_every_machine_gets_a_build_that_can_run_there(platform: str, gpu: str) -> None:
    build = start.choose_torch(platform, lambda: gpu, "", arranged=False)
    index = build.url or ""
    if platform == "macos":
        assert build == start.USUAL
    if platform == "windows":
        assert ("/cu" in index) == gpu.startswith("nvidia")
    if platform.startswith("linux"):
        assert (build == start.USUAL) == (gpu == "nvidia")
        assert index.endswith("/cpu") == (gpu == "none" or (gpu == "amd" and platform == "linux-aarch64"))
    assert ("rocm" in index) == (gpu == "amd" and platform == "linux-x86_64")


def test_every_row_of_the_table_can_be_reached() -> None:
    assert {platform for platform, _ in start.TORCH_BUILDS} == set(PLATFORMS)
    assert {gpu for _, gpu in start.TORCH_BUILDS} == set(GPUS)


@pytest.mark.parametrize(
    ("system", "machine", "name"),
    [
        ("linux", "x86_64", "linux-x86_64"),
        ("linux", "aarch64", "linux-aarch64"),
        ("win32", "AMD64", "windows"),
        ("darwin", "arm64", "macos"),
    ],
)
def test_platforms_have_a_name_in_the_table(system: str, machine: str, name: str) -> None:
    assert start.platform_name(system, machine) == name
    assert (name, "none") in start.TORCH_BUILDS


@pytest.mark.parametrize(
    ("report", "gpu"),
    [
        ("580.65.06, 8.9\n", "nvidia"),
        ("581.15, 7.5\n", "nvidia"),
        ("570.86.10, 8.6\n", "nvidia-older"),
        ("580.65.06, 6.1\n", "nvidia-older"),
        ("580.65.06, 6.1\n580.65.06, 8.6\n", "nvidia"),
        ("572.16, 12.0\n", "nvidia"),
        ("", "none"),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", "none"),
    ],
)
def test_driver_and_capability_decide_between_the_cuda_builds(report: str, gpu: str) -> None:
    assert start.nvidia_generation(report) == gpu


def test_the_users_own_package_sources_win_over_the_table() -> None:
    assert start.choose_torch("linux-x86_64", no_gpu_needed, "", arranged=True) == start.USUAL


@pytest.mark.parametrize(
    ("choice", "build"),
    [("cpu", start.CPU), ("cuda", start.USUAL), ("rocm", start.ROCM), ("default", start.USUAL)],
)
def test_a_choice_by_the_user_wins_over_everything(choice: str, build: start.TorchBuild) -> None:
    assert start.choose_torch("linux-x86_64", no_gpu_needed, choice, arranged=True) == build


def test_an_unknown_choice_is_refused_with_the_known_ones() -> None:
    with pytest.raises(start.SetupError, match="cpu, cuda, rocm or default"):
        start.choose_torch("linux-x86_64", no_gpu_needed, "quantum", arranged=False)


# --- pip's settings ---

PIP_CONFIG = """\
:env:.find-links='/from/env'
global.extra-index-url='https://one.example/simple https://two.example/simple'
global.find-links='\\n/wheels one\\n/wheels-two'
global.cert='/certs.pem'
global.timeout='60'
install.find-links='/for-install'
"""


def test_pip_settings_are_read_with_pips_own_precedence() -> None:
    settings = start.pip_settings(PIP_CONFIG, {"PIP_INDEX_URL": "https://index.example/simple"})
    assert settings["find-links"] == "/for-install"
    assert settings["index-url"] == "https://index.example/simple"
    assert start.pip_settings(PIP_CONFIG, {"PIP_FIND_LINKS": "/env"})["find-links"] == "/env"


def test_uv_is_told_what_pip_was_told() -> None:
    settings = start.pip_settings(PIP_CONFIG, {"PIP_FIND_LINKS": "/a /b"})
    assert start.uv_environment(settings, {}) == {
        "UV_FIND_LINKS": "/a,/b",
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "SSL_CERT_FILE": "/certs.pem",
    }


def test_what_uv_was_told_by_the_user_stays() -> None:
    assert start.uv_environment({"find-links": "/pip"}, {"UV_FIND_LINKS": "/uv"}) == {}


@pytest.mark.parametrize(
    ("settings", "arranged"),
    [
        ({}, False),
        ({"cert": "/certs.pem", "constraint": "c.txt"}, False),
        ({"no-index": "0"}, False),
        ({"find-links": "/wheels"}, True),
        ({"index-url": "https://index.example/simple"}, True),
        ({"extra-index-url": "https://index.example/simple"}, True),
        ({"no-index": "1"}, True),
    ],
)
def test_only_settings_that_name_a_source_count_as_an_arrangement(
    settings: dict[str, str], arranged: bool
) -> None:
    assert start.arranges_sources(settings) is arranged


# --- install commands ---


def tool(uv: str | None = None) -> start.Installer:
    return start.installer(uv, Path("python"), {}, {})


def test_torch_comes_alone_from_its_index() -> None:
    command = start.torch_command(tool(), start.CPU, "", "torch==2.13.0")
    assert command is not None
    assert command[-4:] == ["--index-url", start.CPU.url, "--no-deps", "torch==2.13.0"]


def test_the_usual_build_needs_no_step_of_its_own() -> None:
    assert start.torch_command(tool(), start.USUAL, "", "torch==2.13.0") is None
    assert start.torch_command(tool(), start.USUAL, "default", "torch==2.13.0") is None


@pytest.mark.parametrize(("uv", "flag"), [(None, "--force-reinstall"), ("uv", "--reinstall-package")])
def test_another_gpu_exchanges_the_build_of_the_same_version(uv: str | None, flag: str) -> None:
    command = start.torch_command(tool(uv), start.USUAL, "cpu", "torch==2.13.0")
    assert command is not None and flag in command and "--index-url" not in command


@pytest.mark.parametrize("uv", [None, "uv"])
@pytest.mark.parametrize("build", [start.USUAL, start.CPU, start.ROCM])
def test_constraints_always_apply(uv: str | None, build: start.TorchBuild) -> None:
    command = start.packages_command(tool(uv), build, ("kernel", "dev"))
    assert command[-4:] == ["-c", "constraints.txt", "-e", ".[kernel,dev]"]
    assert ("--extra-index-url" in command) == build.dependencies_there


def test_constraints_pin_torch_without_naming_a_build() -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert start.pinned_torch(constraints) == "torch==2.13.0"
    assert all(line.startswith("#") or "+" not in line for line in constraints.splitlines())


# --- set-up, with a runner that only takes notes ---


class Recorder:
    """Stands for the installers: notes every command, and makes what `venv` would make."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.commands: list[list[str]] = []
        self.fails: Callable[[Sequence[str]], bool] = lambda _: False

    def __call__(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        self.commands.append(list(command))
        if self.fails(command):
            return 1
        if "venv" in command:
            python = start.venv_python(self.root)
            python.parent.mkdir(parents=True)
            python.write_text("", encoding="utf-8")
            (self.root / ".venv" / "pyvenv.cfg").write_text("version = 3.11.7\n", encoding="utf-8")
        return 0

    def steps(self) -> list[str]:
        """The commands in one word each."""
        words = ("venv", "torch==2.13.0", "-e")
        return [word for command in self.commands for word in words if word in command]


ENVIRONMENT = {"LORAKEET_TORCH": "cpu"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(start, "output_of", lambda _: "")
    monkeypatch.setattr(start, "hardware_hint", lambda: "a GPU")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    (tmp_path / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    (tmp_path / "constraints.txt").write_text("torch==2.13.0\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def recorder(project: Path) -> Recorder:
    return Recorder(project)


@pytest.fixture
def ready(project: Path, recorder: Recorder) -> Path:
    """A project that is set up for use; the recorder is empty again."""
    start.ensure(project, ("kernel",), recorder, ENVIRONMENT)
    recorder.commands.clear()
    return project


def test_the_first_run_makes_the_environment_then_torch_then_the_rest(
    project: Path, recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    start.ensure(project, ("kernel",), recorder, ENVIRONMENT)
    assert recorder.steps() == ["venv", "torch==2.13.0", "-e"]
    output = capsys.readouterr()
    assert output.out == ""
    assert "first time" in output.err


def test_the_second_run_starts_nothing_and_says_nothing(
    ready: Path, recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    start.ensure(ready, ("kernel",), recorder, ENVIRONMENT)
    assert recorder.commands == []
    assert capsys.readouterr().err == ""


def test_the_tests_add_their_tools_once(ready: Path, recorder: Recorder) -> None:
    start.ensure(ready, start.PACKAGES_FOR_TESTS, recorder, ENVIRONMENT)
    assert recorder.commands[-1][-1] == ".[kernel,dev]"
    recorder.commands.clear()
    start.ensure(ready, start.PACKAGES_FOR_TESTS, recorder, ENVIRONMENT)
    start.ensure(ready, start.PACKAGES_FOR_USE, recorder, ENVIRONMENT)
    assert recorder.commands == []


@pytest.mark.parametrize("file", ["pyproject.toml", "constraints.txt", ".venv/pyvenv.cfg"])
def test_a_changed_input_installs_again_in_the_same_environment(
    ready: Path, recorder: Recorder, file: str
) -> None:
    with (ready / file).open("a", encoding="utf-8") as changed:
        changed.write("# changed\n")
    start.ensure(ready, ("kernel",), recorder, ENVIRONMENT)
    assert recorder.steps() == ["torch==2.13.0", "-e"]


def test_other_hardware_another_choice_and_another_plan_change_the_stamp(
    ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = {start.stamp(ready, ENVIRONMENT), start.stamp(ready, {"LORAKEET_TORCH": "cuda"})}
    monkeypatch.setattr(start, "hardware_hint", lambda: "no GPU any more")
    stamps.add(start.stamp(ready, ENVIRONMENT))
    monkeypatch.setattr(start, "TORCH_BUILDS", {})
    stamps.add(start.stamp(ready, ENVIRONMENT))
    assert len(stamps) == 4


def test_another_choice_exchanges_torch(ready: Path, recorder: Recorder) -> None:
    start.ensure(ready, ("kernel",), recorder, {"LORAKEET_TORCH": "rocm"})
    torch, rest = recorder.commands[-2:]
    assert "--force-reinstall" in torch and start.ROCM.url in torch
    assert "--extra-index-url" in rest


def test_a_half_made_environment_is_made_anew(project: Path, recorder: Recorder) -> None:
    leftover = project / ".venv" / "lib" / "half"
    leftover.mkdir(parents=True)
    start.ensure(project, ("kernel",), recorder, ENVIRONMENT)
    assert recorder.steps() == ["venv", "torch==2.13.0", "-e"]
    assert not leftover.exists()


def test_an_environment_whose_python_is_gone_is_made_anew(ready: Path, recorder: Recorder) -> None:
    start.venv_python(ready).unlink()
    start.ensure(ready, ("kernel",), recorder, ENVIRONMENT)
    assert recorder.steps()[0] == "venv"


def test_an_environment_whose_python_does_not_start_is_made_anew(ready: Path, recorder: Recorder) -> None:
    (ready / "pyproject.toml").write_text("changed", encoding="utf-8")
    recorder.fails = lambda command: command[1] == "-I"
    start.ensure(ready, ("kernel",), recorder, ENVIRONMENT)
    assert recorder.steps() == ["venv", "torch==2.13.0", "-e"]


def test_damaged_notes_count_as_none(ready: Path, recorder: Recorder) -> None:
    (ready / ".venv" / "lorakeet.json").write_text('{"kernel": ', encoding="utf-8")
    start.ensure(ready, ("kernel",), recorder, ENVIRONMENT)
    assert recorder.steps()[0] == "venv"


def test_a_failed_install_says_what_to_do_and_goes_on_next_time(project: Path, recorder: Recorder) -> None:
    recorder.fails = lambda command: "-e" in command
    with pytest.raises(start.SetupError, match="Run the same command again"):
        start.ensure(project, ("kernel",), recorder, ENVIRONMENT)
    recorder.fails = lambda _: False
    recorder.commands.clear()
    start.ensure(project, ("kernel",), recorder, ENVIRONMENT)
    assert recorder.steps() == ["torch==2.13.0", "-e"]


def test_an_interrupt_at_any_step_leaves_a_set_up_that_can_be_run_again(
    project: Path, recorder: Recorder
) -> None:
    def interrupt_at(word: str) -> Callable[[Sequence[str]], bool]:
        def fails(command: Sequence[str]) -> bool:
            if word in command:
                raise KeyboardInterrupt
            return False

        return fails

    for word in ("venv", "torch==2.13.0", "-e"):
        recorder.fails = interrupt_at(word)
        with pytest.raises(KeyboardInterrupt):
            start.ensure(project, ("kernel",), recorder, ENVIRONMENT)
        assert not start.is_ready(project, ("kernel",), ENVIRONMENT)
    recorder.fails = lambda _: False
    start.ensure(project, ("kernel",), recorder, ENVIRONMENT)
    assert start.is_ready(project, ("kernel",), ENVIRONMENT)


def test_an_interrupted_update_is_not_taken_for_a_finished_one(ready: Path, recorder: Recorder) -> None:
    recorder.fails = lambda command: "-e" in command
    original = (ready / "pyproject.toml").read_text(encoding="utf-8")
    (ready / "pyproject.toml").write_text("other", encoding="utf-8")
    with pytest.raises(start.SetupError):
        start.ensure(ready, ("kernel",), recorder, ENVIRONMENT)
    (ready / "pyproject.toml").write_text(original, encoding="utf-8")
    assert not start.is_ready(ready, ("kernel",), ENVIRONMENT)


def test_an_unreachable_torch_index_falls_back_to_the_usual_one(
    project: Path, recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.fails = lambda command: "--index-url" in command
    start.ensure(project, ("kernel",), recorder, ENVIRONMENT)
    assert "did not deliver torch==2.13.0" in capsys.readouterr().err
    notes = json.loads((project / ".venv" / "lorakeet.json").read_text(encoding="utf-8"))
    assert notes["torch"] == "default"


def test_a_failed_environment_names_the_usual_missing_package(project: Path, recorder: Recorder) -> None:
    recorder.fails = lambda command: "venv" in command
    with pytest.raises(start.SetupError, match="python3-venv"):
        start.ensure(project, ("kernel",), recorder, ENVIRONMENT)
