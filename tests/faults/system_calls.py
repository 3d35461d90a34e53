"""The system calls that change a disk, by their number on this machine (Linux), and what they say.

`tests.faults.supervisor` decides of each; `tests.faults.confined` makes Linux ask. Standard library only.
"""

import platform
import sys
from typing import Final, Literal, NamedTuple

Kind = Literal["write", "resize", "create", "make_folder", "name", "remove", "sync", "sync_all", "space"]


class Call(NamedTuple):
    """A system call. `file` and `folder` are the arguments that have a descriptor, `path` one with a path."""

    name: str
    kind: Kind
    x86_64: int | None
    aarch64: int | None
    file: int | None = None
    folder: int | None = None
    path: int | None = None


#: From the tables of Linux: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h.
_TABLE: Final = (
    Call("write", "write", 1, 64, file=0),
    Call("pwrite64", "write", 18, 68, file=0),
    Call("writev", "write", 20, 66, file=0),
    Call("pwritev", "write", 296, 70, file=0),
    Call("pwritev2", "write", 328, 287, file=0),
    Call("sendfile", "write", 40, 71, file=0),
    Call("copy_file_range", "write", 326, 285, file=2),
    Call("ftruncate", "resize", 77, 46, file=0),
    Call("fallocate", "resize", 285, 47, file=0),
    Call("openat", "create", 257, 56, folder=0, path=1),
    Call("mkdir", "make_folder", 83, None, path=0),
    Call("mkdirat", "make_folder", 258, 34, folder=0, path=1),
    Call("rename", "name", 82, None, path=1),
    Call("renameat", "name", 264, 38, folder=2, path=3),
    Call("renameat2", "name", 316, 276, folder=2, path=3),
    Call("link", "name", 86, None, path=1),
    Call("linkat", "name", 265, 37, folder=2, path=3),
    Call("unlink", "remove", 87, None, path=0),
    Call("unlinkat", "remove", 263, 35, folder=0, path=1),
    Call("rmdir", "remove", 84, None, path=0),
    Call("fsync", "sync", 74, 82, file=0),
    Call("fdatasync", "sync", 75, 83, file=0),
    Call("sync", "sync_all", 162, 81),
    Call("syncfs", "sync_all", 306, 267),
    Call("statfs", "space", 137, 43, path=0),
    Call("fstatfs", "space", 138, 44, file=0),
)


def _here(call: Call) -> int | None:
    return call.x86_64 if platform.machine() == "x86_64" else call.aarch64


IS_KNOWN: Final = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
CALLS: Final[dict[int, Call]] = {number: call for call in _TABLE if (number := _here(call)) is not None}
SECCOMP: Final = 317 if platform.machine() == "x86_64" else 277
#: Of AUDIT_ARCH_*: calls of another architecture are not looked at.
ARCHITECTURE: Final = 0xC000_003E if platform.machine() == "x86_64" else 0xC000_00B7
#: `openat` without this flag changes nothing.
O_CREAT: Final = 0o100
