"""Which command starts a kernel, and what to say where there is none."""

import os
import shlex
import sys
from importlib.util import find_spec
from typing import Final

from contract.errors import KernelUnavailable, SettingsInvalid
from orchestrator.settings import Settings

VARIABLE: Final = "LORAKEET_KERNEL"
#: What a kernel cannot even start without; the rest is missed only by the jobs that need it.
_NEEDED: Final = ("jsonrpcserver",)
#: Run in the clone: Lorakeet is on no package index.
INSTALL: Final = 'pip install -e ".[kernel]" -c constraints.txt'
_HOW: Final = (
    f"In the clone of Lorakeet run `python3 start.py doctor`, or `{INSTALL}` with this Python; or set "
    "LORAKEET_KERNEL, or `kernel.command` in settings.toml, to the command of a kernel installed elsewhere."
)


def kernel_command(settings: Settings) -> list[str]:
    """Program and arguments: from the environment, the settings, or this very Python.

    Raises SettingsInvalid, and KernelUnavailable where this Python has no kernel.
    """
    if given := os.environ.get(VARIABLE):
        return split(given)
    if settings.kernel.command:
        return settings.kernel.command
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise KernelUnavailable(
            f"The machine learning kernel is not installed in this environment (no {', '.join(missing)}).",
            hint=_HOW,
        )
    # -P: a folder named `kernel` where the user happens to stand must not be taken for ours.
    return [sys.executable, "-P", "-m", "kernel"]


def split(text: str, *, windows: bool = sys.platform == "win32") -> list[str]:
    """The words of a command as it is typed on this system. Raises SettingsInvalid.

    On Windows a backslash is part of a path and only double quotes hold a word together.
    """
    try:
        words = list(_windows_words(text)) if windows else shlex.split(text)
    except ValueError as error:
        raise SettingsInvalid(f"{VARIABLE} is not a command: {error}.", where=VARIABLE) from None
    if not words:
        raise SettingsInvalid(f"{VARIABLE} is not a command: it is blank.", where=VARIABLE)
    return words


def _windows_words(text: str) -> shlex.shlex:
    # `shlex.split(posix=False)` would leave the quotes in the words.
    words = shlex.shlex(text, posix=True, punctuation_chars=False)
    words.whitespace_split = True
    words.commenters = words.escape = ""
    words.quotes = '"'
    return words
