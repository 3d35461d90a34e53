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
_HOW: Final = (
    'Install it here with `pip install "lorakeet[kernel]"`, or set LORAKEET_KERNEL, or `kernel.command` in '
    "settings.toml, to the command of a kernel that is installed elsewhere."
)


def kernel_command(settings: Settings) -> list[str]:
    """Program and arguments: from the environment, the settings, or this very Python.

    Raises SettingsInvalid, and KernelUnavailable where this Python has no kernel.
    """
    if given := os.environ.get(VARIABLE):
        return _split(given)
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


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text, posix=sys.platform != "win32")
    except ValueError as error:
        raise SettingsInvalid(f"{VARIABLE} is not a command: {error}.", where=VARIABLE) from None
