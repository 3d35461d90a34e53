"""The Job Object, by what is asked of Windows: the same calls on any system, answered by a stand-in."""

import ctypes
import gc
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.hosting import windows

_JOB, _PROCESS = 2**40 + 8, 2**40 + 16


class _Library:
    """Functions that note their calls and answer as Windows does."""

    def __init__(self, calls: list[tuple[Any, ...]], answers: dict[str, int]) -> None:
        self._calls = calls
        self._answers = answers
        self._functions: dict[str, Callable[..., int]] = {}

    def __getattr__(self, name: str) -> Callable[..., int]:
        def function(*arguments: Any) -> int:
            self._calls.append((name, *arguments))
            return self._answers.get(name, 1)

        return self._functions.setdefault(name, function)


def _api(calls: list[tuple[Any, ...]], **answers: int) -> windows.Api:
    usual = {"CreateJobObjectW": _JOB, "OpenProcess": _PROCESS, "NtResumeProcess": 0}
    library = _Library(calls, usual | answers)
    return windows.Api(library, library)


def _names(calls: list[tuple[Any, ...]]) -> list[str]:
    return [name for name, *_ in calls]


@pytest.fixture(autouse=True)
def last_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "get_last_error", lambda: 5, raising=False)


def test_the_limits_are_as_large_as_windows_expects_them() -> None:
    assert ctypes.sizeof(windows.ExtendedLimits) == (144 if ctypes.sizeof(ctypes.c_void_p) == 8 else 112)
    assert windows.ExtendedLimits.flags.offset == 16


def test_every_function_that_is_called_has_its_types() -> None:
    library = _Library([], {})
    windows.Api(library, library)
    for name in (*windows._KERNEL32, *windows._NTDLL):
        assert vars(getattr(library, name)).keys() == {"restype", "argtypes"}
    assert windows._KERNEL32["CreateJobObjectW"][0] is ctypes.c_void_p


def test_a_process_runs_only_once_it_is_in_its_job() -> None:
    calls: list[tuple[Any, ...]] = []
    job = windows.confine(1234, _api(calls))
    assert _names(calls) == [
        "CreateJobObjectW",
        "SetInformationJobObject",
        "OpenProcess",
        "AssignProcessToJobObject",
        "NtResumeProcess",
        "CloseHandle",
    ]
    assert calls[2][-1] == 1234
    assert calls[3] == ("AssignProcessToJobObject", _JOB, _PROCESS)
    assert calls[5] == ("CloseHandle", _PROCESS)
    assert windows.CREATION_FLAGS & 0x4
    job.close()


def test_killing_ends_the_whole_job_and_gives_it_up_once() -> None:
    calls: list[tuple[Any, ...]] = []
    job = windows.confine(1234, _api(calls))
    calls.clear()
    job.kill()
    job.kill()
    assert calls == [("TerminateJobObject", _JOB, 1), ("CloseHandle", _JOB)]


def test_a_job_that_is_forgotten_is_given_up() -> None:
    calls: list[tuple[Any, ...]] = []
    job = windows.confine(1234, _api(calls))
    calls.clear()
    del job
    gc.collect()
    assert calls == [("CloseHandle", _JOB)]


@pytest.mark.parametrize(
    ("name", "answer", "closed"),
    [
        ("CreateJobObjectW", 0, []),
        ("SetInformationJobObject", 0, [_JOB]),
        ("OpenProcess", 0, [_JOB]),
        ("AssignProcessToJobObject", 0, [_PROCESS, _JOB]),
        ("NtResumeProcess", -0x3FFFFFF8, [_PROCESS, _JOB]),
    ],
)
def test_whatever_fails_is_an_error_by_name_and_leaves_no_handle(
    name: str, answer: int, closed: list[int]
) -> None:
    calls: list[tuple[Any, ...]] = []
    with pytest.raises(OSError, match=name):
        windows.confine(1234, _api(calls, **{name: answer}))
    gc.collect()
    assert [each[1] for each in calls if each[0] == "CloseHandle"] == closed
