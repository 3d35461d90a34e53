"""Nothing but the contract is ever on the wire, whoever prints."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import onnx
import pytest

from contract.notifications import NOTIFICATIONS
from tests.builders.demo_tagger import SIZE, build
from tests.builders.graph import Graph, save_tags
from tests.builders.pictures import ZOO, write
from tests.kernel_process import COMMAND, KernelProcess

#: Runs in the kernel's own process and prints in every way there is, from the moment the wire is taken.
NOISE = """
    import ctypes, logging, os, subprocess, sys, threading, time, warnings

    def make_noise():
        while sys.stdout is not sys.stderr:  # the last thing that taking the descriptors does
            time.sleep(0.0005)
        c = ctypes.CDLL(None)
        logging.basicConfig(stream=sys.__stdout__, force=True)
        while True:
            print("noise: print")
            print("noise: original stdout", file=sys.__stdout__, flush=True)
            os.write(1, b"noise: raw write\\n")
            c.printf(b"noise: C printf\\n")
            c.puts(b'{"jsonrpc":"2.0","method":"log","params":{}}')
            c.fflush(None)
            subprocess.run(["sh", "-c", "echo noise: child; cat; echo noise: child has read"])
            os.system("echo noise: system")
            logging.error("noise: logging")
            warnings.warn("noise: warning")
            if "kernel.engines.sessions" in sys.modules:
                sys.modules["onnxruntime"].set_default_logger_severity(0)
            time.sleep(0.01)

    threading.Thread(target=make_noise, daemon=True).start()
"""
MARKS = (
    "noise: print",
    "noise: original stdout",
    "noise: raw write",
    "noise: C printf",
    "noise: child\n",
    "noise: child has read",
    "noise: system",
    "noise: logging",
    "noise: warning",
    "onnxruntime:",
)


def assert_is_contract(message: dict[str, Any]) -> None:
    assert message["jsonrpc"] == "2.0"
    if "id" in message:
        assert message.keys() in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"})
    else:
        assert message.keys() == {"jsonrpc", "method", "params"} and message["method"] in NOTIFICATIONS
        assert message["params"], "an empty one is the noise's own"


def odd_tagger(folder: Path) -> Path:
    """A tagger that onnxruntime has things to say about: a constant that nothing uses."""
    folder.mkdir()
    g = Graph()
    g.const([1.0, 2.0])
    mean = g("ReduceMean", "input", axes=[1, 2], keepdims=0)
    scores = g("Sigmoid", mean)
    g.save(folder / "model.onnx", scores=scores, size=SIZE, tags=3, doc="odd")
    save_tags(folder / "selected_tags.csv", [("general", 9), ("a", 0), ("b", 0)])
    return folder


def unknown_opset(folder: Path) -> Path:
    """A model of an opset that no onnxruntime of today knows."""
    build(folder)
    model = onnx.load(str(folder / "model.onnx"))
    model.opset_import[0].version = 999
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="the noise is made the POSIX way")
def test_no_noise_of_any_kind_reaches_the_wire_while_jobs_run(tmp_path: Path, demo_tagger: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(NOISE), encoding="utf-8")
    images = write(tmp_path / "pictures", ZOO[:12])
    models = [demo_tagger, odd_tagger(tmp_path / "odd"), unknown_opset(tmp_path / "unknown")]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with KernelProcess({"PYTHONPATH": path}) as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        until = time.monotonic() + 40
        jobs = 0
        while jobs < len(models) or not all(mark in kernel.stderr for mark in MARKS):
            assert time.monotonic() < until, kernel.stderr[-2000:]
            params = {
                "job_id": f"job_{jobs}",
                "v": 2,
                "inputs": {"images": [str(image) for image in images]},
                "settings": {"model": {"path": str(models[jobs % len(models)])}},
            }
            answer = kernel.request("tag", params)
            if jobs % len(models) == 2:
                assert answer["error"]["data"]["kind"] == "load_failed"
            else:
                assert answer["result"]["tagged"] == len(images)
            jobs += 1
        kernel.close_stdin()
        assert kernel.wait() == 0
        kernel.kill()
        assert kernel.stray == []
        for message in kernel.messages:
            assert_is_contract(message)


def test_every_answer_is_one_line_of_utf_8_whatever_it_contains(tmp_path: Path) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path])
        for text in ("two\nlines", "\u2028\u2029\x85", "\x00\x1b[31m", "🦜", "\r\n", '"\\', "x" * 4096):
            assert kernel.request("ping", {"echo": text})["result"]["echo"] == text
        assert kernel.stray == []


@pytest.mark.skipif(sys.platform == "win32", reason="a shell closes the descriptor")
def test_a_kernel_without_stderr_answers_and_leaves_like_any_other(tmp_path: Path) -> None:
    lines = (
        '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"contract":{"levels":[1]},'
        f'"client":{{"name":"t"}},"roots":["{tmp_path}"]}}}}\n'
        '{"jsonrpc":"2.0","id":2,"method":"tag","params":{"job_id":"a","v":2,"inputs":{"images":'
        f'["{tmp_path}/x.png"]}},"settings":{{"model":{{"path":"{unknown_opset(tmp_path)}"}}}}}}}}\n'
    )
    command = subprocess.list2cmdline(COMMAND)
    for closed in ("2>&-", "2> /dev/full"):
        if closed.endswith("full") and not Path("/dev/full").exists():
            continue
        with subprocess.Popen(
            ["sh", "-c", f"exec {command} {closed}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as kernel:
            assert kernel.stdin is not None and kernel.stdout is not None
            kernel.stdin.write(lines.encode())
            kernel.stdin.flush()
            seen = b""
            while b'"id":2' not in seen:
                line = kernel.stdout.readline()
                assert line, closed
                seen += line
            assert b"load_failed" in seen, closed
            kernel.stdin.close()
            assert kernel.wait(20) == 0, closed


def test_the_contract_option_prints_the_document_and_nothing_else() -> None:
    done = subprocess.run([*COMMAND, "--contract"], capture_output=True, timeout=20, check=True)
    committed = Path(__file__).parents[2] / "contract" / "schema" / "openrpc.json"
    assert done.stdout == committed.read_bytes()
    assert done.stderr == b""


def test_a_person_gets_words_and_a_wrong_argument_is_refused() -> None:
    for argument, code in (("--version", 0), ("--help", 0), ("--contracts", 2)):
        done = subprocess.run([*COMMAND, argument], capture_output=True, timeout=20, check=False)
        assert done.returncode == code
        assert (done.stderr if code else done.stdout).split()[0] in (b"usage:", b"lorakeet-kernel")
