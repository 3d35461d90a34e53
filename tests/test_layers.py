"""Who may import whom (house rules 4 and 5 in CONTRIBUTING.md): read in the sources, tried in a process."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: What each of our packages may import of ours.
KNOWS = {
    "contract": {"contract"},
    "trainer": {"trainer", "contract"},
    "orchestrator": {"orchestrator", "contract"},
    "kernel": {"kernel", "contract", "trainer"},
}
OURS = {*KNOWS, "tests", "start", "web"}

#: Slow to import; at module level only where the kernel's work is done, which is itself imported late.
HEAVY = {
    "accelerate",
    "bitsandbytes",
    "diffusers",
    "numpy",
    "onnx",
    "onnxruntime",
    "peft",
    "PIL",
    "safetensors.torch",
    "scipy",
    "skimage",
    "sklearn",
    "torch",
    "torchao",
    "torchvision",
    "transformers",
}
HEAVY_HOMES = ("kernel.engines", "kernel.surgery", "trainer")

#: Modules that touch the world; contract only computes.
WORLD = {
    "aiofiles",
    "anyio",
    "asyncio",
    "fcntl",
    "glob",
    "http",
    "httpx",
    "io",
    "mmap",
    "multiprocessing",
    "os",
    "pathlib",
    "requests",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "urllib.request",
}
#: Paths that are only text.
PURE = {"pathlib.PurePath", "pathlib.PurePosixPath", "pathlib.PureWindowsPath"}
#: Tools of the contract that people run; they write files, and no other module of it may import them.
TOOLS = {"contract.export", "contract.__main__"}


class Import(NamedTuple):
    """One imported name and when it is imported."""

    name: str  # full, as in `contract.errors.LorakeetError`
    line: int
    at_load: bool  # as soon as the module is loaded, not inside a function, not only for type checkers


def inside(name: str, packages: set[str] | tuple[str, ...]) -> bool:
    """Whether a dotted name is one of `packages` or lies in one of them."""
    return any(name == package or name.startswith(package + ".") for package in packages)


def module_name(root: Path, path: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def only_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def import_nodes(node: ast.AST, at_load: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """Every node that may import something, with whether it runs when the module is loaded."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom | ast.Call):
            yield child, at_load
        lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from import_nodes(child, at_load and not lazy and not only_for_type_checkers(child))


def imports_of(path: Path, module: str) -> Iterator[Import]:
    """All imports of a file, also by `importlib.import_module("…")`."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node, at_load in import_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield Import(alias.name, node.lineno, at_load)
            case ast.ImportFrom(module=source, names=names, level=level):
                above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                base = ".".join([*above, *([source] if source else [])])
                for alias in names:
                    yield Import(f"{base}.{alias.name}", node.lineno, at_load)
            case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]):
                if ast.unparse(func) in ("importlib.import_module", "import_module", "__import__"):
                    yield Import(name, node.lineno, at_load)


def opens_files(path: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("open", "print", "input"):
            yield node.lineno


def objections(module: str, found: Import) -> Iterator[str]:
    """What the rules have against this import in this module."""
    top = module.partition(".")[0]
    if found.name.partition(".")[0] in OURS - KNOWS[top]:
        yield f"{top} may not know {found.name}"
    if found.at_load and inside(found.name, HEAVY) and not inside(module, HEAVY_HOMES):
        yield f"{found.name} must not load with this module"
    if found.at_load and inside(found.name, HEAVY_HOMES) and not inside(module, HEAVY_HOMES):
        yield f"{found.name} loads heavy packages; import it in the function that needs it"
    if top != "contract" or module in TOOLS:
        return
    if inside(found.name, HEAVY):
        yield f"contract may not use {found.name}"
    if inside(found.name, WORLD) and found.name not in PURE:
        yield f"contract does no I/O, but imports {found.name}"
    if inside(found.name, TOOLS):
        yield f"{found.name} is a tool; contract itself may not need it"


def violations(root: Path) -> list[str]:
    """Every broken rule below `root`, as `file:line: reason`."""
    broken: set[str] = set()
    for top in KNOWS:
        for path in sorted((root / top).rglob("*.py")):
            module, place = module_name(root, path), path.relative_to(root).as_posix()
            for found in imports_of(path, module):
                broken.update(f"{place}:{found.line}: {why}" for why in objections(module, found))
            if top == "contract" and module not in TOOLS:
                broken.update(f"{place}:{line}: contract does no I/O" for line in opens_files(path))
    return sorted(broken)


def test_every_package_knows_only_what_it_may() -> None:
    assert violations(ROOT) == []


def test_the_walk_sees_our_packages() -> None:
    for top in KNOWS:
        assert (ROOT / top / "__init__.py").is_file()


@pytest.mark.parametrize(
    ("file", "source", "reason"),
    [
        ("contract/a.py", "from kernel import wire", "contract may not know kernel.wire"),
        ("contract/a.py", "def f():\n    import torch", "contract may not use torch"),
        ("contract/a.py", "import anyio", "contract does no I/O, but imports anyio"),
        ("contract/a.py", "import os.path", "contract does no I/O, but imports os.path"),
        ("contract/a.py", "from pathlib import Path", "contract does no I/O, but imports pathlib.Path"),
        ("contract/a.py", "text = open('x').read()", "contract does no I/O"),
        ("contract/a.py", "from . import export", "contract.export is a tool"),
        ("contract/rules/a.py", "from ...kernel import jobs", "contract may not know kernel.jobs"),
        ("trainer/a.py", "import orchestrator.queue", "trainer may not know orchestrator.queue"),
        ("trainer/a.py", "def f():\n    import kernel", "trainer may not know kernel"),
        ("orchestrator/a.py", "import trainer", "orchestrator may not know trainer"),
        ("orchestrator/a.py", "from kernel.wire import read", "orchestrator may not know kernel.wire.read"),
        ("orchestrator/a.py", "import importlib\nimportlib.import_module('kernel')", "may not know kernel"),
        ("orchestrator/a.py", "import numpy.typing", "numpy.typing must not load with this module"),
        ("orchestrator/a.py", "class A:\n    import PIL", "PIL must not load with this module"),
        ("kernel/a.py", "import orchestrator", "kernel may not know orchestrator"),
        ("kernel/a.py", "from tests import x", "kernel may not know tests.x"),
        ("kernel/methods/a.py", "import numpy as np", "numpy must not load with this module"),
        ("kernel/methods/a.py", "try:\n    import torch\nfinally:\n    pass", "torch must not load"),
        ("kernel/methods/a.py", "from kernel.engines import tagger", "kernel.engines.tagger loads heavy"),
        ("kernel/methods/a.py", "from ..engines.tagger import Tagger", "engines.tagger.Tagger loads heavy"),
        ("kernel/methods/a.py", "import trainer.loop", "trainer.loop loads heavy packages"),
    ],
)
def test_a_broken_rule_is_seen(tmp_path: Path, file: str, source: str, reason: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source, encoding="utf-8")
    assert any(line.startswith(f"{file}:") and reason in line for line in violations(tmp_path))


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("contract/a.py", "from pathlib import PurePosixPath\nfrom contract.errors import X\nimport re"),
        ("contract/export.py", "from pathlib import Path\nprint(open(Path('x')))"),
        ("trainer/a.py", "import torch\nfrom contract import errors"),
        ("orchestrator/a.py", "import anyio\nimport os\nfrom contract.errors import X"),
        ("kernel/engines/a.py", "import numpy\nimport PIL\nfrom kernel.engines import pictures"),
        ("kernel/methods/a.py", "def f():\n    from kernel.engines import tagger\n    import numpy"),
        ("kernel/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy"),
    ],
)
def test_what_the_rules_allow_passes(tmp_path: Path, file: str, source: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source, encoding="utf-8")
    assert violations(tmp_path) == []


NAME_HEAVY = "print(*[name for name in sys.argv[1].split(',') if name in sys.modules])"

# Loads every module below a package, except those below another one.
LOAD_ALL = f"""
import importlib, pathlib, sys
skip, package = sys.argv[2:]
for path in sorted(pathlib.Path(package).rglob("*.py")):
    name = ".".join(path.with_suffix("").parts)
    if not name.endswith("__main__") and not name.startswith(skip):
        importlib.import_module(name.removesuffix(".__init__"))
{NAME_HEAVY}
"""


def heavy_after(code: str, *arguments: str) -> str:
    """The heavy packages that a fresh interpreter has loaded after running `code`."""
    done = subprocess.run(
        [sys.executable, "-c", code, ",".join(sorted(HEAVY)), *arguments],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_command_line_starts_without_heavy_packages() -> None:
    assert heavy_after("import sys, orchestrator.cli; " + NAME_HEAVY) == ""


@pytest.mark.parametrize("package", sorted(set(KNOWS) - {"trainer"}))
def test_loading_every_module_loads_no_heavy_package(package: str) -> None:
    assert heavy_after(LOAD_ALL, "kernel.engines", package) == ""


def test_a_heavy_package_that_loads_is_seen() -> None:
    assert heavy_after("import sys; sys.modules['torch'] = sys; " + NAME_HEAVY) == "torch"
