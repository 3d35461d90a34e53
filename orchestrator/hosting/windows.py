"""Windows only: a process and all it starts, held together by a Job Object. Called by `process`.

A kernel is started suspended, put into a job of its own and only then let go, so that nothing it starts can
be outside; what a member starts is a member, also the real `python.exe` behind a virtual environment's. The
job kills its members when its last handle is closed: by us, or by Windows when we die.
"""

import ctypes
import weakref
from ctypes import wintypes
from typing import Any, Final

_CREATE_SUSPENDED: Final = 0x4
_CREATE_NEW_PROCESS_GROUP: Final = 0x200
#: For the spawn: not running before it is in its job, and not hit by Ctrl+C in our console.
CREATION_FLAGS: Final = _CREATE_SUSPENDED | _CREATE_NEW_PROCESS_GROUP

_KILL_ON_JOB_CLOSE: Final = 0x2000
_EXTENDED_LIMIT_INFORMATION: Final = 9
_TERMINATE: Final = 0x1
_SET_QUOTA: Final = 0x100
_SUSPEND_RESUME: Final = 0x800
#: What assigning to a job and resuming ask for.
_ACCESS: Final = _TERMINATE | _SET_QUOTA | _SUSPEND_RESUME
#: What a process says that was killed with its job.
_EXIT_CODE: Final = 1

# Not wintypes.DWORD: that is a C long, and the tests look at sizes on other systems.
_DWORD: Final = ctypes.c_uint32


class ExtendedLimits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION; only the flags matter here."""

    _fields_ = (
        ("times", ctypes.c_int64 * 2),
        ("flags", _DWORD),
        ("working_set", ctypes.c_size_t * 2),
        ("active_processes", _DWORD),
        ("affinity", ctypes.c_size_t),
        ("classes", _DWORD * 2),
        ("io", ctypes.c_uint64 * 6),
        ("memory", ctypes.c_size_t * 4),
    )


#: Result and arguments of every function used. Without them ctypes cuts 64-bit handles to C ints.
_KERNEL32: Final[dict[str, tuple[Any, list[Any]]]] = {
    "CreateJobObjectW": (wintypes.HANDLE, [wintypes.LPVOID, wintypes.LPCWSTR]),
    "SetInformationJobObject": (
        wintypes.BOOL,
        [wintypes.HANDLE, ctypes.c_int, ctypes.POINTER(ExtendedLimits), _DWORD],
    ),
    "OpenProcess": (wintypes.HANDLE, [_DWORD, wintypes.BOOL, _DWORD]),
    "AssignProcessToJobObject": (wintypes.BOOL, [wintypes.HANDLE, wintypes.HANDLE]),
    "TerminateJobObject": (wintypes.BOOL, [wintypes.HANDLE, wintypes.UINT]),
    "CloseHandle": (wintypes.BOOL, [wintypes.HANDLE]),
}
#: Resumes all threads of a process. subprocess keeps no handle of the first thread, which ResumeThread needs.
_NTDLL: Final[dict[str, tuple[Any, list[Any]]]] = {"NtResumeProcess": (ctypes.c_int32, [wintypes.HANDLE])}


class Api:
    """The functions of Windows that are used here, each raising OSError where it fails."""

    def __init__(self, kernel32: Any = None, ntdll: Any = None) -> None:
        self._kernel32 = _typed(kernel32 or _library("kernel32"), _KERNEL32)
        self._ntdll = _typed(ntdll or _library("ntdll"), _NTDLL)

    def __call__(self, name: str, *arguments: Any) -> Any:
        """Call a function of kernel32, all of which answer 0 where they fail."""
        result = getattr(self._kernel32, name)(*arguments)
        if not result:
            raise _last_error(name)
        return result

    def resume(self, process: Any) -> None:
        """Let a suspended process run."""
        if (status := self._ntdll.NtResumeProcess(process)) < 0:
            raise OSError(0, f"NtResumeProcess answered {status & 0xFFFFFFFF:#x}")


class Job:
    """A Job Object. `close` gives it up, which kills its members; forgetting the object does the same."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._handle = api("CreateJobObjectW", None, None)
        self.close = weakref.finalize(self, api, "CloseHandle", self._handle)
        limits = ExtendedLimits(flags=_KILL_ON_JOB_CLOSE)
        size = ctypes.sizeof(limits)
        api("SetInformationJobObject", self._handle, _EXTENDED_LIMIT_INFORMATION, ctypes.byref(limits), size)

    def take_in(self, pid: int) -> None:
        """Make a suspended process a member, and let it run. Raises OSError.

        The number is still that process's: Windows gives it to no other one while subprocess has a handle.
        """
        process = self._api("OpenProcess", _ACCESS, False, pid)
        try:
            self._api("AssignProcessToJobObject", self._handle, process)
            self._api.resume(process)
        finally:
            self._api("CloseHandle", process)

    def kill(self) -> None:
        """End every member, now, and give the job up."""
        if self.close.alive:
            self._api("TerminateJobObject", self._handle, _EXIT_CODE)
        self.close()


def confine(pid: int, api: Api | None = None) -> Job:
    """A job of its own for the suspended process `pid`, which then runs. Raises OSError."""
    job = Job(api or Api())
    try:
        job.take_in(pid)
    except OSError:
        job.close()
        raise
    return job


def _typed(library: Any, signatures: dict[str, tuple[Any, list[Any]]]) -> Any:
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _library(name: str) -> Any:
    # A library object of our own: the signatures of `ctypes.windll` are shared with everybody.
    return ctypes.WinDLL(name, use_last_error=True)  # type: ignore[attr-defined,unused-ignore]


def _last_error(name: str) -> OSError:
    number = ctypes.get_last_error()  # type: ignore[attr-defined,unused-ignore]
    return OSError(0, f"{name} failed with Windows error {number}")
