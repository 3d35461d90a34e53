"""What a setting may not say, in the words of its field: (field, message) pairs for `Contradiction`."""

import os
import re
from collections.abc import Iterable, Iterator
from typing import Final

from contract.errors import PathNotAbsolute
from contract.rules.paths import check_plain, from_wire
from contract.validation import Contradiction

#: The studio's own folders, which every studio has as roots.
OWN_ROOTS: Final = ("datasets", "models", "outputs", "runs")
#: The lane that is always there.
CPU: Final = "cpu"

SLUG: Final = r"^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$"
DEVICE: Final = r"^[a-z]+(:[0-9]{1,3})?$"
#: A name or address as it stands in a Host header, with or without a port.
HOST: Final = r"^(\[[0-9a-f:.]+\]|[a-z0-9_-]+(\.[a-z0-9_-]+)*)(:[1-9][0-9]{0,4})?$"
ORIGIN: Final = r"^https?://" + HOST.removeprefix("^")

#: A field, and what is wrong with it.
Problem = tuple[str, str]


def refuse(problems: Iterable[Problem]) -> None:
    """Raises Contradiction where there is a problem."""
    if found := tuple(problems):
        raise Contradiction(*found)


def command_problems(command: list[str] | None) -> Iterator[Problem]:
    """Of what starts a kernel."""
    if command is not None and not "".join(command[:1]).strip():
        yield "command", "names no program; leave it out for the kernel of this Python"


def device_problems(device: str, enabled: bool) -> Iterator[Problem]:
    """Of a device."""
    if not re.fullmatch(DEVICE, device):
        yield "id", f"`{device}` is no device; write such as `cuda:0` or `cpu`"
    elif device == CPU and not enabled:
        yield "enabled", "the CPU is always there, for what must not wait for a GPU"


def id_problems(root: str) -> Iterator[Problem]:
    """Of the id of a root."""
    if not re.fullmatch(SLUG, root):
        yield "id", f"`{root}` is no id: small letters, digits and hyphens, such as `my-photos`"
    elif root in OWN_ROOTS:
        yield "id", f"`{root}` is a folder of the studio itself; choose another id"


def path_problems(path: str) -> Iterator[Problem]:
    """Of a folder that a user names."""
    try:
        folder = from_wire(path)
        check_plain(folder)
    except PathNotAbsolute as error:
        yield "path", error.message.removesuffix(".")
        return
    if not os.path.isabs(folder):
        yield "path", f"`{path}` is not an absolute path of this system"
    elif os.path.dirname(os.path.normpath(folder)) == os.path.normpath(folder):
        yield "path", f"`{path}` is the whole disk; name the folder that is meant"


def misfits(name: str, values: list[str], pattern: str, wanted: str) -> Iterator[Problem]:
    """Of a list of texts, each of which has to be `wanted`."""
    for index, value in enumerate(values):
        if not re.fullmatch(pattern, value):
            yield f"{name}[{index}]", f"`{value}` is not {wanted}"


def twice(table: str, name: str, values: list[str]) -> Iterator[Problem]:
    """Of a list of tables, no two of which may have the same `name`."""
    for index, value in enumerate(values):
        if value in values[:index]:
            first = values.index(value)
            yield f"{table}[{index}].{name}", f"is the same as that of {table}[{first}]"


def same(folder: str) -> str:
    """A text that is the same for two spellings of a path; the disk is not asked."""
    return os.path.normcase(os.path.normpath(folder))
