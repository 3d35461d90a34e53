"""The socket on which the studio listens: bound before anything else, so that a port in use costs nothing."""

import errno
import os
import socket
import sys
from typing import Final

from contract.errors import SettingsInvalid

#: None of ComfyUI's, A1111's, Gradio's, Jupyter's or TensorBoard's.
DEFAULT_PORT: Final = 7878
DEFAULT_HOST: Final = "127.0.0.1"
#: Connections that wait to be taken; a thousand browsers that come back after a restart come at once.
BACKLOG: Final = 2_048

_IN_USE: Final = (errno.EADDRINUSE, getattr(errno, "WSAEADDRINUSE", errno.EADDRINUSE))
_FORBIDDEN: Final = (errno.EACCES, getattr(errno, "WSAEACCES", errno.EACCES))


def bind(host: str, port: int) -> socket.socket:
    """A socket of this address that does not listen yet; port 0 is any free one. Raises SettingsInvalid."""
    # As bytes, plain names need no tables of Unicode to be loaded.
    name = host.encode() if host.isascii() else host
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            name or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise SettingsInvalid(
            f"`{host}` is no address of a machine.", where="--host", hint=_OWN_ADDRESS
        ) from None
    door = socket.socket(family, kind, protocol)
    try:
        if sys.platform == "win32":
            # There SO_REUSEADDR would let another program take our port from us.
            door.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(address)
    except OSError as error:
        door.close()
        raise _refused(error, host, port) from None
    return door


def listen(door: socket.socket, host: str) -> None:
    """Let clients in from now on; who comes before the studio is ready waits. Raises SettingsInvalid."""
    try:
        door.listen(BACKLOG)
    except OSError as error:
        # Two programs may have bound it; only one of them can listen.
        raise _refused(error, host, port_of(door)) from None


def port_of(door: socket.socket) -> int:
    """The port that it is bound to."""
    port: int = door.getsockname()[1]
    return port


def _refused(error: OSError, host: str, port: int) -> SettingsInvalid:
    if error.errno in _IN_USE:
        return SettingsInvalid(
            f"Port {port} is in use by another program.",
            where="--port",
            hint="Choose another one with --port N; --port 0 takes any that is free.",
        )
    if error.errno in _FORBIDDEN:
        return SettingsInvalid(
            f"Port {port} is not for everybody on this system.",
            where="--port",
            hint="Choose one from 1024 on with --port N.",
        )
    why = os.strerror(error.errno) if error.errno else str(error)
    return SettingsInvalid(
        f"The studio cannot listen on {host or 'every address'}: {why}.", where="--host", hint=_OWN_ADDRESS
    )


_OWN_ADDRESS: Final = "Give --host an address of this machine, or leave it out."
