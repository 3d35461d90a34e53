"""The host client against the golden transcripts, their kernel's part played by a script over real pipes."""

import json
import sys
from collections import defaultdict
from typing import Any, Final

import anyio
import msgspec
import pytest

from contract.errors import LorakeetError
from contract.methods.registry import METHODS
from orchestrator.hosting.client import KernelClient, connect
from tests.golden.replay import names, read
from tests.golden.scripted import concrete
from tests.golden.transcript import LOSSY, Message, Step, differences, joined, render

pytestmark = pytest.mark.anyio

_VARIABLES: Final = {name: f"/{name}" for name in ("images", "models", "outside", "demo")}


def _speakable(steps: list[Step]) -> bool:
    """Whether our client would ever say this: it shakes hands once and first, and knows its methods."""
    said = [step for step in steps if step.action.startswith(">")]
    requests = [step.value for step in said if step.action == ">" and "id" in step.value]
    first: Message = next((step.value for step in steps if step.action == "<"), {})
    return (
        all(step.action == ">" for step in said)
        and [each["method"] for each in requests].count("initialize") == 1
        and requests[0]["method"] == "initialize"
        and "result" in first
        and all(each["method"] in METHODS and isinstance(each["params"], dict) for each in requests)
        and len({each["id"] for each in requests}) == len(requests)
    )


#: What errors carry beside what they are made of.
_TRAVELLED: Final = ("job_id", "replayed", "partial", "supported", "trace_id")


class _Host:
    """Says what the transcript's host says, and holds what comes back against what the kernel's part says."""

    def __init__(self, kernel: KernelClient) -> None:
        self._kernel = kernel
        self._answers: dict[Any, Message] = {}
        self._answered: defaultdict[Any, anyio.Event] = defaultdict(anyio.Event)
        self._heard: defaultdict[str, list[Message]] = defaultdict(list)
        self._said: defaultdict[str, list[Message]] = defaultdict(list)
        self._requests: dict[Any, Message] = {}
        self.problems: list[str] = []

    async def play(self, steps: list[Step]) -> None:
        async with anyio.create_task_group() as tasks:
            for step in steps:
                if step.action == ">" and "id" in step.value:
                    self._requests[step.value["id"]] = step.value
                    tasks.start_soon(self._ask, step.value)
                    await anyio.lowlevel.checkpoint()
                elif step.action == "<":
                    await self._expect(concrete(step.value))

    async def _ask(self, request: Message) -> None:
        try:
            result = await self._call(request["method"], request["params"])
            answer = {"result": msgspec.to_builtins(result)}
        except LorakeetError as error:
            answer = {"error": _told(error)}
        self._answers[request["id"]] = answer
        self._answered[request["id"]].set()

    async def _call(self, method: str, params: Message) -> Any:
        if METHODS[method].kind == "job" and isinstance(params.get("job_id"), str):
            return await self._kernel.run(method, params, self._hear)
        return await self._kernel.call(method, params)

    def _hear(self, method: str, params: Any) -> None:
        if method not in LOSSY:
            message = {"jsonrpc": "2.0", "method": method, "params": msgspec.to_builtins(params)}
            self._heard[params.job_id].append(message)

    async def _expect(self, message: Message) -> None:
        if "id" in message:
            await self._answered[message["id"]].wait()
            expected = {name: message[name] for name in ("result", "error") if name in message}
            self._compare(expected, self._answers[message["id"]])
            job = str(self._requests[message["id"]]["params"].get("job_id", ""))
            if said := self._said.pop(job, []):
                self._compare(joined(said), joined(self._heard.pop(job, [])))
        elif message["method"] not in (*LOSSY, "kernel/state"):
            self._said[message["params"]["job_id"]].append(message)

    def _compare(self, expected: Any, actual: Any) -> None:
        self.problems += differences(expected, actual, {}, exact=False)


def _told(error: LorakeetError) -> Message:
    """An error as the client raised it, in the shape in which it travelled."""
    data = {
        "kind": error.kind,
        "retryable": error.retryable,
        "where": error.where,
        "hint": error.hint,
        "details": error.details,
        **{name: getattr(error, name, None) for name in _TRAVELLED},
    }
    return {"code": error.code, "message": error.message, "data": data}


@pytest.mark.parametrize("name", [name for name in names() if _speakable(read(name))])
async def test_the_client_understands_what_the_kernel_says(name: str) -> None:
    command = [sys.executable, "-m", "tests.golden.scripted", name, json.dumps(_VARIABLES)]
    steps = [Step(step.action, render(step.value, _VARIABLES)) for step in read(name)]
    start = next(index for index, step in enumerate(steps) if step.action == "<") + 1
    with anyio.fail_after(30):
        async with connect(command) as kernel:
            host = _Host(kernel)
            await host.play(steps[start:])
    assert host.problems == []


def test_most_transcripts_are_what_our_client_would_say() -> None:
    assert sum(_speakable(read(name)) for name in names()) >= 10
