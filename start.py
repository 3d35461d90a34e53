#!/usr/bin/env python3
"""The one command: make an environment in `.venv`, install into it what this machine needs, run Lorakeet.

It owns the set-up and nothing else; `orchestrator.cli` knows the commands. Standard library only, because
nothing is installed yet when it runs. The whole file must still *parse* on an old Python, and everything
above `main_guard` must also *run* there, so that an old Python can look for a newer one or say what is wrong.
"""

import ast
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

USAGE = """\
usage: python3 start.py [OPTIONS]            run the studio and open it: lorakeet serve OPTIONS
       python3 start.py COMMAND ...          run a command: lorakeet COMMAND ... (try: doctor, tag --help)
       python3 start.py test [PYTEST ARGS]   lint, check formatting and types, run the tests
       python3 start.py test slow|faults [PYTEST ARGS]
       python3 start.py test bench [NAME ...]

The first run sets everything up in .venv beside this file and takes a few minutes; later runs start at once.

environment: LORAKEET_TORCH=cpu|cuda|rocm|default   choose the PyTorch build instead of detecting the GPU
"""

OLDEST_PYTHON = (3, 11)
OTHER_PYTHONS = ("3.13", "3.12", "3.11")


# --- an old Python must be able to run from here to main_guard ---


def python_commands(windows: bool) -> "list[list[str]]":
    """How newer Pythons are called on this system, best first."""
    if windows:
        return [["py", "-" + version] for version in OTHER_PYTHONS]
    return [["python" + version] for version in OTHER_PYTHONS]


def starts(command: "list[str]") -> bool:
    """Whether `command` is a Python that we can use; version managers leave commands that only complain."""
    check = f"import sys, venv; sys.exit(sys.version_info < {OLDEST_PYTHON})"
    nowhere = subprocess.DEVNULL
    try:
        return subprocess.call([*command, "-c", check], stdout=nowhere, stderr=nowhere) == 0
    except OSError:
        return False


def run_on_newer_python() -> None:
    """Start over on the first newer Python there is, or say what to install."""
    for command in python_commands(os.name == "nt"):
        if starts(command):
            whole = [*command, os.path.abspath(__file__), *sys.argv[1:]]
            if os.name == "nt":
                sys.exit(subprocess.call(whole))
            os.execvp(whole[0], whole)
    sys.exit(
        "Lorakeet needs Python 3.11 or newer; this is Python " + platform.python_version() + ".\n"
        "Install one from https://www.python.org/downloads/ and run this again with it, for example:\n"
        "  python3.12 start.py"
    )


def main_guard() -> None:
    """Called once before anything below is defined."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        run_on_newer_python()


if __name__ == "__main__":
    main_guard()


# --- what to install: data ---


class TorchBuild(NamedTuple):
    """Where the PyTorch build for one kind of machine comes from."""

    name: str
    url: str | None = None  # of the index; None: the usual package index
    dependencies_there: bool = False  # some of its dependencies, as ROCm's triton, are on that index only


USUAL = TorchBuild("default")
CPU = TorchBuild("cpu", "https://download.pytorch.org/whl/cpu")
CUDA_12 = TorchBuild("cu126", "https://download.pytorch.org/whl/cu126")
CUDA_13 = TorchBuild("cu130", "https://download.pytorch.org/whl/cu130")
ROCM = TorchBuild("rocm7.2", "https://download.pytorch.org/whl/rocm7.2", dependencies_there=True)

# Builds of PyTorch 2.13: CUDA 12.6 and 13.0, ROCm 7.2 (pytorch/pytorch RELEASE.md, "Release Compatibility
# Matrix", row added by pull request 187075). On Linux, x86-64 and ARM, PyPI has the CUDA 13.0 build; on
# Windows and macOS PyPI has no CUDA (pytorch.org, "Start locally").
TORCH_BUILDS: dict[tuple[str, str], TorchBuild] = {
    ("linux-x86_64", "nvidia"): USUAL,
    ("linux-x86_64", "nvidia-older"): CUDA_12,
    ("linux-x86_64", "amd"): ROCM,
    ("linux-x86_64", "none"): CPU,
    ("linux-aarch64", "nvidia"): USUAL,
    ("linux-aarch64", "nvidia-older"): CUDA_12,
    ("linux-aarch64", "amd"): CPU,
    ("linux-aarch64", "none"): CPU,
    ("windows", "nvidia"): CUDA_13,
    ("windows", "nvidia-older"): CUDA_12,
    ("windows", "amd"): USUAL,
    ("windows", "none"): USUAL,
    ("macos", "none"): USUAL,
}
GPU_BY_CHOICE = {"cpu": "none", "cuda": "nvidia", "rocm": "amd"}

# CUDA 13 needs this driver (NVIDIA, "Minor Version Compatibility", table 1) and a Turing GPU or newer; the
# CUDA 12.6 build has no code for Blackwell, compute capability 10 and up (pytorch/pytorch issue 190355).
CUDA_13_DRIVER = 580
TURING = 7.5
BLACKWELL = 10.0

# pip settings that say where packages come from, and the variable that tells uv the same.
UV_VARIABLE_BY_PIP_SETTING = {
    "find-links": "UV_FIND_LINKS",
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "constraint": "UV_CONSTRAINT",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}
OWN_SOURCES = ("find-links", "index-url", "extra-index-url", "no-index")

PACKAGES_FOR_USE = ("kernel",)
PACKAGES_FOR_TESTS = ("kernel", "dev")

Environment = Mapping[str, str]
Runner = Callable[[Sequence[str], Environment], int]


class SetupError(Exception):
    """Raised when set-up cannot go on; its text tells the user what failed and what to do."""


# --- what was asked for ---


class Plan(NamedTuple):
    """What a command line stands for."""

    packages: tuple[str, ...]
    checks: tuple[tuple[str, ...], ...] = ()  # arguments for Python, run in the repository, all of them
    command: tuple[str, ...] = ()  # arguments for Python; this process becomes it


def route(arguments: Sequence[str]) -> Plan | None:
    """Read the command line; None means: only show how to use it."""
    first, *rest = arguments or ("serve",)
    if first in ("-h", "--help"):
        return None
    if first == "test":
        return Plan(PACKAGES_FOR_TESTS, checks=route_test(rest))
    if first.startswith("-"):
        first, rest = "serve", [first, *rest]
    # -P: a folder named `kernel` where the user happens to stand must not be taken for ours.
    return Plan(PACKAGES_FOR_USE, command=("-P", "-m", "orchestrator.cli", first, *rest))


def route_test(arguments: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The checks behind `test`; pytest comes last so that its summary ends the output."""
    suite, rest = (arguments[0], arguments[1:]) if arguments else ("", arguments)
    if suite == "bench":
        return (("-m", "tests.bench", *rest),)
    if suite in ("slow", "faults"):
        return (("-m", "pytest", "-m", suite, *rest),)
    return (
        ("-m", "ruff", "check", "."),
        ("-m", "ruff", "format", "--check", "."),
        ("-m", "mypy"),
        ("-m", "pytest", *arguments),
    )


# --- what this machine is ---


def platform_name(system: str, machine: str) -> str:
    """The name of this platform in the table of PyTorch builds."""
    if system == "win32":
        return "windows"
    if system == "darwin":
        return "macos"
    return "linux-aarch64" if machine.lower() in ("aarch64", "arm64") else "linux-x86_64"


def nvidia_generation(report: str) -> str:
    """Read "driver version, compute capability" lines: can the best of these GPUs use CUDA 13?"""
    found = re.findall(r"^(\d+)[\d.]*\s*,\s*(\d+\.\d+)", report, re.MULTILINE)
    if not found:
        return "none"
    driver = int(found[0][0])
    capability = max(float(each) for _, each in found)
    too_old = capability < TURING or (driver < CUDA_13_DRIVER and capability < BLACKWELL)
    return "nvidia-older" if too_old else "nvidia"


def output_of(command: Sequence[str]) -> str:
    """What `command` prints; empty when it fails, hangs or does not exist."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")


def has_amd_compute() -> bool:
    """Whether the kernel driver or the tools of ROCm are here."""
    return os.path.exists("/dev/kfd") or shutil.which("rocm-smi") is not None


def detect_gpu() -> str:
    """The kind of GPU in the table of PyTorch builds."""
    if shutil.which("nvidia-smi"):
        query = "--query-gpu=driver_version,compute_cap"
        found = nvidia_generation(output_of(["nvidia-smi", query, "--format=csv,noheader"]))
        if found != "none":
            return found
        if output_of(["nvidia-smi", "-L"]).startswith("GPU "):
            return "nvidia-older"  # a driver too old to know the question
    return "amd" if has_amd_compute() else "none"


def hardware_hint() -> str:
    """A cheap sign that the GPU changed since the last set-up; `detect_gpu` may take a second."""
    return f"{shutil.which('nvidia-smi') is not None} {has_amd_compute()}"


# --- where packages come from ---


def pip_settings(config: str, environment: Environment) -> dict[str, str]:
    """The user's own pip settings, from `pip config list` and the environment, which wins."""
    settings: dict[str, str] = {}
    for section in ("global", "install"):
        for key, value in re.findall(rf"^{section}\.([\w-]+)=(.+)$", config, re.MULTILINE):
            with contextlib.suppress(ValueError, SyntaxError):
                settings[key] = str(ast.literal_eval(value))
    for name in (*UV_VARIABLE_BY_PIP_SETTING, "no-index"):
        value = environment.get("PIP_" + name.upper().replace("-", "_"), "")
        if value:
            settings[name] = value
    return settings


def arranges_sources(settings: Mapping[str, str]) -> bool:
    """Whether the user decided where packages come from; then we do not decide for them."""
    return any(settings.get(name, "") not in ("", "0", "false", "False") for name in OWN_SOURCES)


def uv_environment(settings: Mapping[str, str], environment: Environment) -> dict[str, str]:
    """What uv must be told of pip's settings, which it does not read; uv's own settings win."""
    told = {
        variable: " ".join(settings[name].split())
        for name, variable in UV_VARIABLE_BY_PIP_SETTING.items()
        if settings.get(name)
    }
    if "UV_FIND_LINKS" in told:
        told["UV_FIND_LINKS"] = told["UV_FIND_LINKS"].replace(" ", ",")
    if "UV_INDEX" in told:
        told["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # as pip does: all indexes are equal
    return {variable: value for variable, value in told.items() if variable not in environment}


def choose_torch(machine: str, gpu: Callable[[], str], choice: str, arranged: bool) -> TorchBuild:
    """The PyTorch build for this machine; `choice` is LORAKEET_TORCH."""
    if choice and choice != "default" and choice not in GPU_BY_CHOICE:
        raise SetupError(f"LORAKEET_TORCH is {choice!r}; it may be cpu, cuda, rocm or default.")
    if choice == "default" or (arranged and not choice):
        return USUAL
    return TORCH_BUILDS.get((machine, GPU_BY_CHOICE[choice] if choice else gpu()), USUAL)


def pinned_torch(constraints: str) -> str:
    """The requirement `torch==…` in constraints.txt."""
    found = re.search(r"^torch==\S+", constraints, re.MULTILINE)
    if found is None:
        raise SetupError("constraints.txt does not pin torch; take the file from the repository.")
    return found.group()


# --- installers ---


class Installer(NamedTuple):
    """uv or pip, by how it is called."""

    command: tuple[str, ...]
    reinstall: tuple[str, ...]
    all_indexes: tuple[str, ...]
    environment: dict[str, str]


def installer(
    uv: str | None, python: Path, settings: Mapping[str, str], environment: Environment
) -> Installer:
    """uv when it is there, for it takes seconds where pip takes a minute; else pip."""
    if uv:
        offline = ("--no-index",) if settings.get("no-index") in ("1", "true", "True") else ()
        return Installer(
            command=(uv, "pip", "install", "--python", str(python), *offline),
            reinstall=("--reinstall-package", "torch"),
            all_indexes=("--index-strategy", "unsafe-best-match"),
            environment=uv_environment(settings, environment),
        )
    # A terminal shows pip's progress through some gigabytes; a log keeps only what went wrong.
    quiet = () if sys.stderr.isatty() else ("--quiet",)
    return Installer(
        command=(str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *quiet),
        reinstall=("--force-reinstall",),
        all_indexes=(),
        environment={"PIP_USER": "0"},  # a user-wide `user = true` contradicts any virtual environment
    )


def torch_command(tool: Installer, build: TorchBuild, before: str, requirement: str) -> list[str] | None:
    """Install only PyTorch from its index, or exchange the build; None when the usual install brings it."""
    exchange = before not in ("", build.name)
    if build.url is None and not exchange:
        return None
    index = ["--index-url", build.url] if build.url else []
    return [*tool.command, *index, *(tool.reinstall if exchange else ()), "--no-deps", requirement]


def packages_command(tool: Installer, build: TorchBuild, packages: Sequence[str]) -> list[str]:
    """Install Lorakeet itself, editable, with everything it needs at the tested versions."""
    index: tuple[str, ...] = ()
    if build.url and build.dependencies_there:
        index = ("--extra-index-url", build.url, *tool.all_indexes)
    return [*tool.command, *index, "-c", "constraints.txt", "-e", f".[{','.join(packages)}]"]


# --- the environment in .venv and what we remember about it ---


def venv_python(root: Path) -> Path:
    """The interpreter of `.venv`."""
    return root / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def read_state(root: Path) -> dict[str, str]:
    """The notes of finished installs; empty when there is no environment or it was left half-made."""
    try:
        state = json.loads((root / ".venv" / "lorakeet.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(root: Path, state: Mapping[str, str]) -> None:
    """Replace the notes whole, never half."""
    target = root / ".venv" / "lorakeet.json"
    draft = target.with_suffix(".tmp")
    draft.write_text(json.dumps(dict(state), indent=1), encoding="utf-8")
    os.replace(draft, target)


def read_or_empty(path: Path) -> bytes:
    """The bytes of a file that may be missing."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def stamp(root: Path, environment: Environment) -> str:
    """Everything that decides what gets installed, as one hash. Starts no process: it runs every time."""
    python = venv_python(root)
    digest = hashlib.sha256()
    for part in (
        read_or_empty(root / "pyproject.toml"),
        read_or_empty(root / "constraints.txt"),
        repr((TORCH_BUILDS, PACKAGES_FOR_USE, PACKAGES_FOR_TESTS)).encode(),
        # An upgrade of the system's Python changes where the environment's interpreter leads.
        read_or_empty(root / ".venv" / "pyvenv.cfg"),
        str(python.resolve()).encode(),
        # An editable install points to this folder.
        str(root).encode(),
        environment.get("LORAKEET_TORCH", "").encode(),
        hardware_hint().encode(),
    ):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def is_ready(root: Path, packages: Sequence[str], environment: Environment) -> bool:
    """Whether these packages are installed as the sources ask for."""
    state = read_state(root)
    if not state or not venv_python(root).exists():
        return False
    current = stamp(root, environment)
    return all(state.get(package) == current for package in packages)


def run(command: Sequence[str], environment: Environment) -> int:
    """Run an installer; its output goes to stderr because stdout belongs to the user's command."""
    try:
        return subprocess.run(command, stdout=2, env=dict(environment), cwd=ROOT, check=False).returncode
    except OSError as error:
        say(f"{command[0]}: {error}")
        return 127


def venv_works(python: Path, needs_pip: bool, runner: Runner, environment: Environment) -> bool:
    """Whether the interpreter starts, finds its packages and, where needed, pip."""
    if not python.exists():
        return False
    check = "import os, sys, sysconfig; sys.exit(not os.path.isdir(sysconfig.get_path('purelib')))"
    if runner((str(python), "-I", "-c", check), environment) != 0:
        return False
    if not needs_pip:
        return True
    has_pip = "import importlib.util, sys; sys.exit(importlib.util.find_spec('pip') is None)"
    if runner((str(python), "-I", "-c", has_pip), environment) == 0:
        return True
    return runner((str(python), "-m", "ensurepip", "--upgrade"), environment) == 0


def make_venv(root: Path, uv: str | None, runner: Runner, environment: Environment) -> None:
    """Make `.venv` anew."""
    folder = root / ".venv"
    # When `.venv`'s own interpreter runs this file, it is about to be deleted: use the one behind it.
    base = str(getattr(sys, "_base_executable", sys.executable))
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise SetupError(
            f"Could not remove the broken environment {folder} ({error}).\n"
            "Close the programs that use it, delete the folder and run this again."
        ) from error
    made_by_uv = (uv or "", "venv", "--quiet", "--python", base, str(folder))
    command = made_by_uv if uv else (base, "-m", "venv", str(folder))
    if runner(command, environment) != 0:
        raise SetupError(
            f"Could not make a Python environment in {folder}; the reason is above.\n"
            "On Debian and Ubuntu `sudo apt install python3-venv` is often what is missing."
            " Then run this again."
        )


def install(root: Path, packages: Sequence[str], runner: Runner, environment: Environment) -> None:
    """Bring `.venv` to what the sources ask for. May be interrupted anywhere: the notes come last."""
    uv, python = shutil.which("uv"), venv_python(root)
    state = read_state(root)
    if state and venv_works(python, not uv, runner, environment):
        say("Bringing the installation in .venv up to date…")
    else:
        say("Setting up Lorakeet in .venv (the first time takes a few minutes)…")
        make_venv(root, uv, runner, environment)
        state = {}
    before = state.get("torch", "")
    write_state(root, {"torch": before})

    config = output_of([sys.executable, "-m", "pip", "config", "list"])
    settings = pip_settings(config, environment)
    tool = installer(uv, python, settings, environment)
    environment = {**environment, **tool.environment}
    choice = environment.get("LORAKEET_TORCH", "")
    machine = platform_name(sys.platform, platform.machine())
    build = choose_torch(machine, detect_gpu, choice, arranges_sources(settings))
    build = install_torch(root, tool, build, before, runner, environment)
    write_state(root, {"torch": build.name})

    say(f"Installing Lorakeet and what it needs ({', '.join(packages)})…")
    if runner(packages_command(tool, build, packages), environment) != 0:
        raise SetupError(
            "The installation failed; the reason is above.\n"
            "Most often it is the network or a full disk (PyTorch needs up to 10 GB)."
            " Run the same command again: it goes on from here."
        )
    current = stamp(root, environment)
    write_state(root, {"torch": build.name, **{package: current for package in packages}})


def install_torch(
    root: Path, tool: Installer, build: TorchBuild, before: str, runner: Runner, environment: Environment
) -> TorchBuild:
    """Install PyTorch where it has an index of its own; returns the build that is there afterwards."""
    requirement = pinned_torch(read_or_empty(root / "constraints.txt").decode("utf-8"))
    command = torch_command(tool, build, before, requirement)
    if command is None:
        return build
    say(f"Installing PyTorch, build {build.name}…")
    if runner(command, environment) == 0:
        return build
    say(
        f"{build.url or 'The package index'} did not deliver {requirement};"
        " going on with PyTorch from the usual package index."
    )
    return USUAL._replace(name=before or USUAL.name)


@contextlib.contextmanager
def one_at_a_time(root: Path) -> Iterator[None]:
    """Two installers in one environment break it; the lock goes with the process, however that ends."""
    with open(root / ".setup.lock", "w", encoding="utf-8") as file:
        if sys.platform == "win32":
            import msvcrt

            while True:  # LK_LOCK itself waits ten seconds, then raises
                with contextlib.suppress(OSError):
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                    break
        else:
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                say("Another start.py is setting up; waiting for it…")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ensure(root: Path, packages: Sequence[str], runner: Runner, environment: Environment) -> None:
    """Install what is missing or outdated; do nothing, fast, when all is there."""
    if is_ready(root, packages, environment):
        return
    if sys.maxsize < 2**32:
        raise SetupError("This is a 32-bit Python; install a 64-bit one, as PyTorch needs, and use that.")
    try:
        with one_at_a_time(root):
            if not is_ready(root, packages, environment):
                install(root, packages, runner, environment)
    except OSError as error:
        raise SetupError(
            f"Could not write in {root}: {error}.\nFree the disk or fix the permissions, then run this again."
        ) from error


# --- running ---


def say(text: str) -> None:
    """Tell the user; on stderr, so that `--json` on stdout stays clean."""
    print(text, file=sys.stderr, flush=True)


def run_checks(python: Path, checks: Sequence[Sequence[str]]) -> int:
    """Run every check even when one failed; the last one's own summary ends the output."""
    failed: list[str] = []
    for check in checks:
        name = " ".join(check[1:4] if check[1] == "ruff" else check[1:])
        if failed:
            say(f"(failed so far: {', '.join(failed)})")
        say(f"== {name}")
        if subprocess.run([str(python), *check], cwd=ROOT, check=False).returncode != 0:
            failed.append(name)
    return 1 if failed else 0


def become(python: Path, command: Sequence[str]) -> int:
    """Turn into the command, so that signals reach it; Windows cannot, so there we wait for it."""
    whole = [str(python), *command]
    if os.name != "nt":
        os.execv(whole[0], whole)
    process = subprocess.Popen(whole)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # the command got Ctrl+C too and decides what it means


ROOT = Path(__file__).resolve().parent


def main(arguments: Sequence[str]) -> int:
    """Set up, then run what was asked for."""
    plan = route(arguments)
    if plan is None:
        print(USAGE, end="")
        return 0
    try:
        ensure(ROOT, plan.packages, run, os.environ)
        if plan.checks:
            return run_checks(venv_python(ROOT), plan.checks)
    except SetupError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("Stopped. Run the same command again to go on.")
        return 130
    return become(venv_python(ROOT), plan.command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
