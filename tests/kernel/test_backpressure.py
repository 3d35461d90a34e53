"""Hosts that do not read, flood, stop in the middle of a line, or send what is no JSON."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.builders.graph import Graph, save_tags
from tests.builders.pictures import NASTY, write
from tests.kernel_process import COMMAND, KernelProcess

GRACE_S = 10.0
MIB = 1024 * 1024
HELLO: dict[str, Any] = {"contract": {"levels": [1]}, "client": {"name": "t"}}

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="waits for pipes with select")


@contextmanager
def silent_host() -> Iterator[tuple["subprocess.Popen[bytes]", int, int]]:
    """A kernel, and both ends of its wire as descriptors that nobody reads or writes unless told to."""
    with subprocess.Popen(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        bufsize=0,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield process, process.stdin.fileno(), process.stdout.fileno()
        finally:
            process.kill()


def line(request_id: Any, method: str, params: dict[str, Any]) -> bytes:
    message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
    return json.dumps(message).encode() + b"\n"


def write_until_stuck(fd: int, data: bytes, stuck_s: float) -> int:
    """How much of `data` the pipe took before it took nothing more for `stuck_s`."""
    os.set_blocking(fd, False)
    done = 0
    while done < len(data) and select.select([], [fd], [], stuck_s)[1]:
        done += os.write(fd, data[done : done + 4096])
    os.set_blocking(fd, True)
    return done


def messages(fd: int, timeout_s: float = 20) -> Iterator[dict[str, Any]]:
    """Every message on the wire, until it ends."""
    rest = b""
    while True:
        assert select.select([fd], [], [], timeout_s)[0], "the wire is silent"
        chunk = os.read(fd, 1 << 20)
        if not chunk:
            assert rest == b""
            return
        *lines, rest = (rest + chunk).split(b"\n")
        for each in lines:
            yield json.loads(each)


def memory_of(pid: int) -> int:
    """Bytes of memory that are the process's own."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next(int(row.split()[1]) * 1024 for row in status.splitlines() if row.startswith("RssAnon"))


def talkative_tagger(folder: Path, tags: int = 2000) -> Path:
    """Every tag fires for every picture: a hundred kilobytes of result each."""
    folder.mkdir()
    g = Graph()
    mean = g("ReduceMean", g("Div", "input", g.const(255.0)), axes=[1, 2, 3], keepdims=0)
    column = g("Unsqueeze", mean, g.const([1], np.int64))
    scores = g("Sigmoid", g("Add", column, g.const(np.linspace(0, 4, tags))))
    g.save(folder / "model.onnx", scores=scores, size=16, tags=tags, doc="talkative")
    save_tags(folder / "selected_tags.csv", [(f"a_rather_long_tag_{index}", 0) for index in range(tags)])
    return folder


# A host that does not read ----------------------------------------------------------------------------------


@posix_only
def test_a_host_that_stops_reading_stops_the_job_and_loses_nothing(tmp_path: Path) -> None:
    pictures = 400
    (image,) = write(tmp_path, NASTY[:1])
    model = talkative_tagger(tmp_path / "model")
    job = {
        "job_id": "a",
        "v": 2,
        "inputs": {"images": [str(image)] * pictures},
        "settings": {"model": {"path": str(model)}, "batch_size": 1},
    }
    with silent_host() as (kernel, stdin, stdout):
        os.write(stdin, line(1, "initialize", {**HELLO, "roots": [str(tmp_path)]}))
        wire = messages(stdout)
        assert "result" in next(wire)
        os.write(stdin, line(2, "tag", job))
        while next(wire).get("method") != "partial":
            pass
        # From here on nobody reads. Pings pile up until the kernel takes no more: by then the job is long
        # stuck behind a full pipe and a full queue.
        before = memory_of(kernel.pid) if sys.platform == "linux" else 0
        pings = b"".join(line(number, "ping", {}) for number in range(1000, 20_000))
        assert write_until_stuck(stdin, pings, 2.0) < len(pings)
        assert kernel.poll() is None
        if sys.platform == "linux":
            # All results would be 400 x 2,000 tags; as Python objects, more than 200 MB.
            assert memory_of(kernel.pid) - before < 100 * MIB

        numbers, items = [], 1
        for message in wire:
            if message.get("id") == 2:
                assert message["result"]["tagged"] == pictures
                break
            if "id" not in message and "seq" in message["params"]:
                numbers.append(message["params"]["seq"])
                items += len(message["params"].get("items", ()))
        assert items == pictures
        assert numbers == sorted(set(numbers))
        assert kernel.poll() is None


@posix_only
def test_a_flood_that_is_read_late_is_answered_whole_and_in_order() -> None:
    count = 20_000
    flood = b"".join(line(number, "ping", {}) for number in range(count))
    with silent_host() as (kernel, stdin, stdout):
        os.write(stdin, line("hello", "initialize", HELLO))
        before = memory_of(kernel.pid) if sys.platform == "linux" else 0
        done = write_until_stuck(stdin, flood, 1.0)
        assert done < len(flood), "what nobody reads is not taken without end"
        if sys.platform == "linux":
            assert memory_of(kernel.pid) - before < 40 * MIB
        rest = threading.Thread(target=os.write, args=(stdin, flood[done:]), daemon=True)
        rest.start()
        answered = []
        for message in messages(stdout):
            if isinstance(message.get("id"), int):
                answered.append(message["id"])
            if len(answered) == count:
                break
        assert answered == list(range(count))
        rest.join(10)
        assert kernel.stdin is not None
        kernel.stdin.close()
        assert kernel.wait(GRACE_S) == 0


@posix_only
@pytest.mark.slow
def test_a_host_that_floods_closes_stdin_and_never_reads_does_not_keep_the_kernel() -> None:
    with silent_host() as (kernel, stdin, _):
        os.write(stdin, line("hello", "initialize", HELLO))
        write_until_stuck(stdin, b"".join(line(number, "ping", {}) for number in range(20_000)), 1.0)
        assert kernel.stdin is not None
        kernel.stdin.close()
        assert kernel.wait(GRACE_S + 1) == 0


@posix_only
def test_a_kernel_that_leaves_waits_for_a_slow_host_and_writes_every_answer_it_owes() -> None:
    with silent_host() as (kernel, stdin, stdout):
        os.write(stdin, line(0, "initialize", HELLO))
        os.write(stdin, b"".join(line(number, "ping", {"echo": "x" * 999}) for number in range(1, 900)))
        os.write(stdin, line(900, "job/get", {"job_id": "a"}))
        wire = messages(stdout)
        assert "result" in next(wire)
        kernel.send_signal(signal.SIGTERM)
        # More is to be written than the pipe takes, so the kernel stays; its loop has ended by then.
        with pytest.raises(subprocess.TimeoutExpired):
            kernel.wait(0.5)
        os.write(stdin, line(901, "job/get", {"job_id": "a"}) + line(902, "ping", {}))
        answers = {message["id"]: message for message in wire if "id" in message}
        assert set(range(1, 901)) <= set(answers)
        assert answers[900]["error"]["data"]["kind"] == "unknown_job"
        # What came later ends with the wire.
        assert 901 not in answers or answers[901]["error"]["data"]["kind"] == "shutting_down"
        assert kernel.wait(GRACE_S) == 0
        assert kernel.stderr is not None and kernel.stderr.read() == b""


@posix_only
def test_a_host_that_closes_stdout_only_ends_the_kernel() -> None:
    with silent_host() as (kernel, stdin, stdout):
        os.write(stdin, line("hello", "initialize", HELLO))
        assert "result" in next(messages(stdout))
        assert kernel.stdout is not None
        kernel.stdout.close()
        os.write(stdin, line(1, "ping", {}))
        assert kernel.wait(GRACE_S) == 3


@posix_only
def test_the_wire_may_be_pipes_that_somebody_left_non_blocking() -> None:
    kernel_in, stdin = os.pipe()
    stdout, kernel_out = os.pipe()
    os.set_blocking(kernel_in, False)
    os.set_blocking(kernel_out, False)
    with subprocess.Popen(COMMAND, stdin=kernel_in, stdout=kernel_out, start_new_session=True) as kernel:
        os.close(kernel_in)
        os.close(kernel_out)
        os.write(stdin, line("hello", "initialize", HELLO))
        wire = messages(stdout)
        assert "result" in next(wire)
        write_until_stuck(stdin, b"".join(line(number, "ping", {}) for number in range(3000)), 0.5)
        os.close(stdin)
        answered = [message["id"] for message in wire if "id" in message]
        assert len(answered) > 1000 and answered == list(range(len(answered)))
        assert kernel.wait(GRACE_S) == 0
    os.close(stdout)


# Lines ------------------------------------------------------------------------------------------------------


def test_half_a_line_and_then_the_end_is_no_message() -> None:
    with KernelProcess() as kernel:
        kernel.initialize()
        kernel.send_raw(b'{"jsonrpc":"2.0","id":9,"method":"pi')
        kernel.close_stdin()
        assert kernel.wait() == 0
        assert 9 not in {message.get("id") for message in kernel.messages} and kernel.stray == []


def test_a_line_in_pieces_is_answered_when_it_is_whole() -> None:
    with KernelProcess() as kernel:
        kernel.initialize()
        whole = line(9, "ping", {"echo": "🦜" * 100})
        for at in range(0, len(whole), 7):
            kernel.send_raw(whole[at : at + 7])
        assert kernel.answer(9)["result"]["echo"] == "🦜" * 100


def test_many_lines_in_one_write_are_answered_in_order() -> None:
    with KernelProcess() as kernel:
        kernel.send_raw(line(0, "initialize", HELLO) + b"".join(line(n, "ping", {}) for n in range(1, 200)))
        ids: list[int] = []
        while len(ids) < 200:
            message = kernel.receive()
            ids += [message["id"]] if "id" in message else []
        assert ids == list(range(200))


def test_a_line_of_nine_mebibytes_is_refused_and_the_next_one_answered() -> None:
    with KernelProcess() as kernel:
        kernel.initialize()
        kernel.send_raw(line(1, "ping", {"echo": "x" * 9 * MIB}) + line("next", "ping", {}))
        error = kernel.answer(None)["error"]
        assert (error["code"], error["data"]["kind"]) == (-32600, "line_too_long")
        assert error["data"]["details"] == {"limit": 8 * MIB}
        assert "result" in kernel.answer("next")


def test_the_limit_of_a_line_is_the_one_agreed_on() -> None:
    with KernelProcess() as kernel:
        assert kernel.initialize(max_message_bytes=10 * MIB)["limits"]["max_message_bytes"] == 10 * MIB
        kernel.send_raw(line(1, "job/get", {"job_id": "a", "ext": {"x": "x" * 9 * MIB}}))
        assert kernel.answer(1)["error"]["data"]["kind"] == "unknown_job"
        exact = line(2, "ping", {"ext": {"x": ""}})
        exact = exact.replace(b'""', b'"' + b"x" * (10 * MIB - len(exact) + 1) + b'"')
        assert len(exact) == 10 * MIB + 1  # with its \n
        kernel.send_raw(exact)
        assert "result" in kernel.answer(2)
        kernel.send_raw(exact.replace(b"x}", b"xx}").replace(b'x"', b'xx"', 1))
        assert kernel.answer(None)["error"]["data"]["kind"] == "line_too_long"


PING = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{}}'
#: A line, the code of its answer (None for a result) and the id that comes back.
LINES: list[tuple[str, bytes, int | None, Any]] = [
    ("carriage return", PING + b"\r", None, 1),
    ("blanks", b"  " + PING + b"\t ", None, 1),
    ("nothing", b"", -32700, None),
    ("only a carriage return", b"\r", -32700, None),
    ("text", b"hello", -32700, None),
    ("NUL bytes", b"\0\0\0", -32700, None),
    ("NUL in a text", b'{"jsonrpc":"2.0","id":1,"method":"pi\0ng"}', -32700, None),
    ("NUL escaped", b'{"jsonrpc":"2.0","id":1,"method":"pi\\u0000ng"}', -32601, 1),
    ("byte order mark", b"\xef\xbb\xbf" + PING, -32700, None),
    ("not UTF-8, in the envelope", b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', -32700, None),
    (
        "not UTF-8, in params of the reader",
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"echo":"\xff"}}',
        -32700,
        1,
    ),
    (
        "not UTF-8, in params of the loop",
        b'{"jsonrpc":"2.0","id":1,"method":"job/get","params":{"job_id":"\xff"}}',
        -32700,
        1,
    ),
    (
        "not UTF-8, in params of a job",
        b'{"jsonrpc":"2.0","id":1,"method":"tag","params":{"job_id":"a","x":"\xff"}}',
        -32700,
        1,
    ),
    (
        "not UTF-8, and no request either",
        b'{"jsonrpc":"2.0","id":1.5,"method":"ping","x":"\xff"}',
        -32700,
        None,
    ),
    (
        "half a surrogate",
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"echo":"\\ud800"}}',
        -32700,
        None,
    ),
    ("deep nesting", b"[" * 100_000, -32700, None),
    (
        "deep nesting in params",
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"ext":%b}}'
        % (b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
        -32700,
        None,
    ),
    ("an array", b"[" + PING + b"]", -32600, None),
    ("an empty array", b"[]", -32600, None),
    ("a number", b"5", -32600, None),
    ("a text in quotes", b'"ping"', -32600, None),
    ("an empty object", b"{}", -32600, None),
    ("two objects", PING + PING, -32700, None),
    ("no version", b'{"id":1,"method":"ping"}', -32600, 1),
    ("version 1", b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600, 1),
    ("no method", b'{"jsonrpc":"2.0","id":1}', -32600, 1),
    ("a method that is no text", b'{"jsonrpc":"2.0","id":1,"method":5}', -32600, 1),
    ("a method that does not exist", b'{"jsonrpc":"2.0","id":1,"method":"nope"}', -32601, 1),
    ("a notification sent as a request", b'{"jsonrpc":"2.0","id":1,"method":"exit"}', -32601, 1),
    ("a method in another case", b'{"jsonrpc":"2.0","id":1,"method":"Ping"}', -32601, 1),
    ("params in an array", b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}', -32600, 1),
    ("params null", b'{"jsonrpc":"2.0","id":1,"method":"ping","params":null}', -32600, 1),
    ("no params", b'{"jsonrpc":"2.0","id":1,"method":"ping"}', None, 1),
    ("an unknown field", b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"ehco":""}}', -32602, 1),
    (
        "a number beyond a double",
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"ext":{"x":1e999}}}',
        -32700,
        1,
    ),
    (
        "a whole number without end",
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"ext":{"x":%b}}}' % (b"9" * 4000),
        None,
        1,
    ),
    (
        "a second initialize",
        b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"contract":{"levels":[1]},'
        b'"client":{"name":"t"}}}',
        -32600,
        1,
    ),
    (
        "a key twice",
        b'{"jsonrpc":"2.0","id":0,"method":"x","id":1,"method":"ping"}',
        None,
        1,
    ),
    (
        "a job id twice, the first wrong",
        b'{"jsonrpc":"2.0","id":1,"method":"tag","params":{"job_id":5,"v":2,"inputs":{"images":["/x"]},'
        b'"settings":{"model":{"path":"/x"}},"job_id":"a"}}',
        -32602,
        1,
    ),
    ("id: a text", PING.replace(b'"id":1', b'"id":"\xf0\x9f\xa6\x9c"'), None, "🦜"),
    ("id: an empty text", PING.replace(b'"id":1', b'"id":""'), None, ""),
    ("id: null", PING.replace(b'"id":1', b'"id":null'), None, None),
    ("id: negative", PING.replace(b'"id":1', b'"id":-5'), None, -5),
    ("id: 63 bits", PING.replace(b'"id":1', b'"id":9223372036854775807'), None, 2**63 - 1),
    ("id: a fraction", PING.replace(b'"id":1', b'"id":1.5'), -32600, None),
    ("id: true", PING.replace(b'"id":1', b'"id":true'), -32600, None),
    ("id: an object", PING.replace(b'"id":1', b'"id":{}'), -32600, None),
]


def test_every_line_gets_one_answer_with_the_right_code_and_id() -> None:
    with KernelProcess() as kernel:
        kernel.initialize()
        for name, content, code, request_id in LINES:
            kernel.send_raw(content + b"\n")
            message = kernel.receive()
            while "id" not in message:
                message = kernel.receive()
            assert message["id"] == request_id and type(message["id"]) is type(request_id), name
            assert message.get("error", {}).get("code") == code, (name, message)
            if code is not None:
                assert message["error"]["data"]["kind"] and "trace_id" not in message["error"]["data"], name
        # Nothing more comes: the next answer belongs to the next request.
        kernel.send_raw(line("last", "ping", {}))
        message = kernel.receive()
        while "id" not in message:
            message = kernel.receive()
        assert message["id"] == "last"
        assert kernel.stray == []
        kernel.close_stdin()
        assert kernel.wait() == 0
        kernel.kill()
        assert kernel.stderr == ""


@pytest.mark.parametrize("method", ["ping", "status", "cancel", "tag", "job/get", "shutdown", "nope"])
def test_nothing_is_answered_before_the_handshake(method: str) -> None:
    with KernelProcess() as kernel:
        error = kernel.request(method, {"job_id": "a"})["error"]
        assert (error["code"], error["data"]["kind"]) == (-32002, "not_initialized")


def test_notifications_are_never_answered_whatever_they_say() -> None:
    with KernelProcess() as kernel:
        kernel.initialize()
        for method in ("ping", "tag", "nope", "$/whatever", "initialize", "shutdown"):
            kernel.notify(method, {"job_id": "a"})
        assert kernel.request("status")["result"]["accepting_jobs"] is True
        assert [message["id"] for message in kernel.messages if "id" in message] == [1, 2]
