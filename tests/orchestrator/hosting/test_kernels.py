import subprocess
import sys
from pathlib import Path

import pytest

from contract.errors import SettingsInvalid
from orchestrator.hosting.kernels import kernel_command, split
from orchestrator.settings import KernelSettings, Settings


def test_the_environment_wins_over_the_settings_and_these_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LORAKEET_KERNEL", raising=False)
    settings = Settings(kernel=KernelSettings(command=["ssh", "box", "lorakeet-kernel"]))
    assert kernel_command(Settings()) == [sys.executable, "-P", "-m", "kernel"]
    assert kernel_command(settings) == ["ssh", "box", "lorakeet-kernel"]
    monkeypatch.setenv("LORAKEET_KERNEL", "my-kernel --fast")
    assert kernel_command(settings) == ["my-kernel", "--fast"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/opt/my\\ ml/kernel --fast", ["/opt/my ml/kernel", "--fast"]),
        ("'/opt/my ml/kernel' -m \"a b\"", ["/opt/my ml/kernel", "-m", "a b"]),
    ],
)
def test_a_command_is_split_as_a_shell_splits_it(text: str, words: list[str]) -> None:
    assert split(text, windows=False) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"C:\\Program Files\\ml\\kernel.exe" --fast', ["C:\\Program Files\\ml\\kernel.exe", "--fast"]),
        ("C:\\ml\\kernel.exe -m 'x'", ["C:\\ml\\kernel.exe", "-m", "'x'"]),
        ('C:\\"my ml"\\k.exe "" #1', ["C:\\my ml\\k.exe", "", "#1"]),
        ('"C:\\my ml\\"', ["C:\\my ml\\"]),
    ],
)
def test_on_windows_backslashes_stay_and_quotes_go(text: str, words: list[str]) -> None:
    assert split(text, windows=True) == words


@pytest.mark.parametrize("windows", [True, False])
@pytest.mark.parametrize("text", ['"unclosed', " "])
def test_what_is_no_command_is_refused_on_every_system(text: str, windows: bool) -> None:
    with pytest.raises(SettingsInvalid, match="LORAKEET_KERNEL"):
        split(text, windows=windows)


def test_a_command_that_cannot_be_split_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORAKEET_KERNEL", '"unclosed')
    with pytest.raises(SettingsInvalid, match="LORAKEET_KERNEL"):
        kernel_command(Settings())


def test_without_the_kernels_packages_the_cli_runs_and_says_how_to_get_them(tmp_path: Path) -> None:
    """An environment with the light packages only: the heavy ones are hidden from a fresh interpreter."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.jpg").touch()
    script = """
import sys, importlib.abc
HIDDEN = {"jsonrpcserver", "torch", "onnxruntime", "numpy", "PIL", "huggingface_hub", "safetensors", "pynvml"}
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(name)
class Absent(Hide):
    pass
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in HIDDEN else found(name, package)
sys.meta_path.insert(0, Absent())
from orchestrator.cli import main
raise SystemExit(main(["tag", sys.argv[1], "--model", "wd-vit-v3"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "pictures")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 5, done.stderr
    assert 'pip install -e ".[kernel]" -c constraints.txt' in done.stderr.replace("\n", " ")
    assert "LORAKEET_KERNEL" in done.stderr
    assert "Traceback" not in done.stderr
