"""Become a program whose changes to disks somebody else decides of: `python confined.py SOCKET COMMAND`.

Linux asks whoever holds the descriptor that goes to SOCKET (seccomp_unotify(2)); that needs no privileges.
"""

import ctypes
import os
import socket
import struct
import sys
from typing import Final, NoReturn

from tests.faults.system_calls import ARCHITECTURE, CALLS, O_CREAT, SECCOMP

_PR_SET_NO_NEW_PRIVS: Final = 38
_SET_MODE_FILTER: Final = 1
_NEW_LISTENER: Final = 8
_ALLOW: Final = 0x7FFF_0000
_ASK: Final = 0x7FC0_0000
#: Of the classic BPF: load a word, jump if equal, jump if a bit is set, return.
_LOAD: Final = 0x20
_IF_EQUAL: Final = 0x15
_IF_SET: Final = 0x45
_RETURN: Final = 0x06
#: Where `struct seccomp_data` has the number, the architecture, and the third argument.
_NUMBER, _ARCHITECTURE, _THIRD = 0, 4, 32


def _program() -> bytes:
    opens = next(number for number, call in CALLS.items() if call.kind == "create")
    others = [number for number in CALLS if number != opens]
    # After the two tests at the top: one for each call, then the ends. Jumps count from the next instruction.
    tests = [(_IF_EQUAL, number, len(others) - index + 3, 0) for index, number in enumerate(others)]
    program = [
        (_LOAD, _ARCHITECTURE, 0, 0),
        (_IF_EQUAL, ARCHITECTURE, 0, len(others) + 4),
        (_LOAD, _NUMBER, 0, 0),
        *tests,
        (_IF_EQUAL, opens, 0, 2),
        (_LOAD, _THIRD, 0, 0),
        (_IF_SET, O_CREAT, 1, 0),
        (_RETURN, _ALLOW, 0, 0),
        (_RETURN, _ASK, 0, 0),
    ]
    return b"".join(
        struct.pack("HBBI", code, if_true, if_false, value) for code, value, if_true, if_false in program
    )


def _listener() -> int:
    """From here on Linux asks; the descriptor that it asks through. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    program = ctypes.create_string_buffer(_program())
    # The last byte of a string buffer is a zero of Python's own.
    head = struct.pack("HxxxxxxP", (len(program) - 1) // 8, ctypes.addressof(program))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    listener = libc.syscall(SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, ctypes.create_string_buffer(head))
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return int(listener)


def main(address: str, command: list[str]) -> NoReturn:
    with socket.socket(socket.AF_UNIX) as supervisor:
        supervisor.connect(address)
        listener = _listener()
        socket.send_fds(supervisor, [b"."], [listener])
        os.close(listener)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
