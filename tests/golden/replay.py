"""Replays a transcript against a real kernel on real pipes, and says everything that is different."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from contract.errors import InvalidParams, WireError
from contract.export import openrpc
from contract.methods.registry import METHODS, Method
from contract.notifications import NOTIFICATIONS
from contract.validation import decode
from tests.golden.transcript import LOSSY, Message, Step, differences, joined, parse, render
from tests.kernel_process import KernelEnded, KernelProcess

SCENARIOS: Final = Path(__file__).parent / "scenarios"
#: Seconds to wait for one message; the first tag job imports onnxruntime.
WAIT_S: Final = 30.0

#: Errors about the line itself, which come before any method is known.
_ABOUT_LINES = {"parse_error", "invalid_request", "line_too_long", "method_not_found"}


def names() -> list[str]:
    """Every scenario there is."""
    return sorted(path.stem for path in SCENARIOS.glob("*.jsonl"))


def read(name: str) -> list[Step]:
    """The transcript of a scenario."""
    return parse((SCENARIOS / f"{name}.jsonl").read_text(encoding="utf-8"))


class Ear:
    """Hears what a kernel says and sorts it: responses by id, notifications by job, states by themselves.

    `problems` are the breaches of rules that hold for every transcript.
    """

    def __init__(self, kernel: KernelProcess) -> None:
        self.kernel = kernel
        self.problems: list[str] = []
        self.responses: dict[Any, list[Message]] = defaultdict(list)
        self.jobs: dict[str, list[Message]] = defaultdict(list)
        self.logs: list[Message] = []
        self.states = 0
        self.requests: dict[Any, Message] = {}
        self._seqs: dict[str, int] = {}

    def say(self, step: Step) -> None:
        """Do what a `>` step says; its names are filled in already."""
        match step.action:
            case ">":
                self._remember(step.value)
                self.kernel.send(step.value)
            case ">raw":
                self.kernel.send_raw(step.value.encode() + b"\n")
            case ">fill":
                self.kernel.send_raw(b"x" * step.value + b"\n")
            case ">close":
                self.kernel.close_stdin()

    def _remember(self, request: Message) -> None:
        if type(request_id := request.get("id")) in (int, str):
            self.requests[request_id] = request

    def response(self, request_id: Any) -> Message:
        """The next response to that id. Raises TimeoutError and KernelEnded."""
        while not self.responses[request_id]:
            self._sort(self.kernel.receive(WAIT_S))
        return self.responses[request_id].pop(0)

    def state(self) -> None:
        """Wait for one more `kernel/state`. Raises TimeoutError and KernelEnded."""
        while not self.states:
            self._sort(self.kernel.receive(WAIT_S))
        self.states -= 1

    def job_of(self, request_id: Any) -> str:
        """The job that a request is about, if any."""
        params = self.requests.get(request_id, {}).get("params")
        return str(params.get("job_id", "")) if isinstance(params, dict) else ""

    def end(self) -> int:
        """The exit code, once everything has been heard that was said."""
        code = self.kernel.wait(WAIT_S)
        try:
            while True:
                self._sort(self.kernel.receive(WAIT_S))
        except KernelEnded:
            return code

    def _sort(self, message: Message) -> None:
        self.problems += _breaches(message, self.requests.get(message.get("id")))
        method = message.get("method")
        if method is None:
            self.responses[message["id"]].append(message)
            # The next attempt of the job counts anew.
            self._seqs.pop(self.job_of(message["id"]), None)
            return
        if "seq" in message["params"]:
            self._count(message["params"])
        if method == "kernel/state":
            self.states += 1
        elif method == "log":
            self.logs.append(message)
        elif method not in LOSSY:
            self.jobs[message["params"]["job_id"]].append(message)

    def _count(self, params: Message) -> None:
        job, seq = params["job_id"], params["seq"]
        if seq <= self._seqs.get(job, 0):
            self.problems.append(f"seq {seq} of {job} follows {self._seqs[job]}")
        self._seqs[job] = seq


def replay(
    steps: list[Step], kernel: KernelProcess, variables: Mapping[str, str], *, exact: bool = True
) -> list[str]:
    """What is different when `steps` are played with `kernel`; nothing when they match."""
    player = _Player(Ear(kernel), exact)
    try:
        for number, step in enumerate(steps, 1):
            player.play(number, Step(step.action, render(step.value, variables)))
        player.end()
    except (TimeoutError, KernelEnded, BrokenPipeError) as error:
        player.problems.append(f"line {number}: {error}")
    return [*player.problems, *player.ear.problems]


class _Player:
    def __init__(self, ear: Ear, exact: bool) -> None:
        self.ear = ear
        self.problems: list[str] = []
        self._exact = exact
        self._bound: dict[str, str] = {}
        self._expected: dict[str, list[Message]] = defaultdict(list)

    def play(self, number: int, step: Step) -> None:
        if step.action == "<":
            self._hear(number, step.value)
        elif step.action == "exit":
            if (code := self.ear.end()) != step.value:
                self.problems.append(f"line {number}: exit code {code} instead of {step.value}")
        else:
            self.ear.say(step)

    def end(self) -> None:
        """Nothing may be left over."""
        for job in {*self._expected, *self.ear.jobs}:
            self._compare(0, self._expected[job], self.ear.jobs[job])
        left = [each for responses in self.ear.responses.values() for each in responses]
        self.problems += [f"nobody expects {each}" for each in left]
        self.problems += [f"no JSON-RPC on stdout: {line!r}" for line in self.ear.kernel.stray]

    def _hear(self, number: int, message: Message) -> None:
        if "id" in message:
            self._compare(number, [message], [self.ear.response(message["id"])])
            self._close_job(number, self.ear.job_of(message["id"]))
        elif message["method"] == "kernel/state":
            self.ear.state()
        elif message["method"] not in LOSSY:
            self._expected[message["params"]["job_id"]].append(message)

    def _close_job(self, number: int, job: str) -> None:
        if expected := self._expected.pop(job, None):
            self._compare(number, expected, self.ear.jobs.pop(job, []))

    def _compare(self, number: int, expected: list[Message], actual: list[Message]) -> None:
        found = _joined(actual)
        for difference in differences(_joined(expected), found, self._bound, exact=self._exact, path=""):
            self.problems.append(f"line {number}: {difference}")


def _joined(messages: list[Message]) -> list[Message]:
    return joined(messages) if messages and "method" in messages[0] else messages


def _breaches(message: Message, request: Message | None) -> Iterator[str]:
    """What in `message` breaks the contract, whatever a transcript says."""
    asked = METHODS.get(str((request or {}).get("method")))
    try:
        if "method" in message:
            struct, _ = NOTIFICATIONS[message["method"]]
            yield from _unknown(message["params"], struct)
        elif "error" in message:
            yield from _unlisted(decode(message["error"], WireError), asked)
        elif asked is not None and asked.result is not None:
            yield from _unknown(message["result"], asked.result)
    except (InvalidParams, KeyError) as error:
        yield f"{message} breaks the contract: {error}"


def _unknown(value: Any, struct: type[msgspec.Struct]) -> Iterator[str]:
    decode(value, struct)
    for name in value.keys() - {field.encode_name for field in msgspec.structs.fields(struct)}:
        yield f"{struct.__name__} has no field {name}"


_LISTED = {
    method["name"]: {(error["code"], error["message"]) for error in method["errors"]}
    for method in openrpc()["methods"]
}


def _unlisted(error: WireError, asked: Method | None) -> Iterator[str]:
    """An error that the documents do not announce for the method."""
    if asked is None or error.data.kind in _ABOUT_LINES:
        return
    if (error.code, error.data.kind) not in _LISTED[asked.name]:
        yield f"{error.code} {error.data.kind} is not listed among the errors of {asked.name}"
