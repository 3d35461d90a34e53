"""Computes the tensors of an output piece by piece on all cores and writes them in the order of the file."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from math import prod
from queue import Empty, SimpleQueue
from threading import Lock, local
from typing import Final, NamedTuple

import torch

from contract.errors import OutOfMemory
from kernel.engines.factors.workers import Workers
from kernel.engines.streams.expressions import (
    PIECE,
    Expression,
    Leaf,
    Scratch,
    grain_of,
    has_whole,
    is_settled,
    pieces,
    settled,
)
from kernel.engines.streams.numbers import Limit
from kernel.surgery import Surgery
from trainer.shortage import is_memory
from trainer.weights.dtypes import FLOATS, number_bytes, torch_dtype
from trainer.weights.tensor_writer import TensorSpec, Written

#: What the host sees of it.
PHASE: Final = "merge"


class Output(NamedTuple):
    """A tensor of the output, and how it is computed. The numbers of an `is_table` may be infinite."""

    spec: TensorSpec
    expression: Expression
    is_table: bool = False


class Task(NamedTuple):
    """A run of numbers of one tensor, to be made at once; all of them where `whole`."""

    output: Output
    start: int
    length: int
    whole: bool = False

    @property
    def code(self) -> str:
        return self.output.spec.dtype

    @property
    def expression(self) -> Expression:
        return self.output.expression


class Made(NamedTuple):
    """The bytes of a task. `buffer` is free again once they are written."""

    data: memoryview
    buffer: torch.Tensor | None = None


def write(outputs: Sequence[Output], metadata: Mapping[str, str], surgery: Surgery) -> Written:
    """Write all of `outputs`. Raises what reading and writing raises, WeightsNotFinite, WeightsUnsupported,
    and JobCanceled between two tensors; then nothing is left of the file.
    """
    by_name = {each.spec.name: each for each in outputs}
    total = len(outputs)

    def tasks(order: Sequence[TensorSpec]) -> Iterator[Task]:
        for done, spec in enumerate(order):
            surgery.step(PHASE, done, total)
            yield from _tasks(by_name[spec.name])

    with (
        surgery.writer([each.spec for each in outputs], metadata) as writer,
        Workers() as workers,
    ):
        maker = Maker(surgery.device)
        for made in workers.map(maker.make, tasks(writer.order)):
            writer.write(made.data)
            maker.release(made)
        surgery.step("finish", total, total)
        return writer.finish()


def _tasks(output: Output) -> Iterator[Task]:
    if not is_settled(output.expression):
        yield Task(output, 0, prod(output.expression.shape), whole=True)
        return
    for start, count in pieces(output.expression):
        yield Task(output, start, count)


class Maker:
    """Makes tasks, on any number of threads at a time, each in memory of its own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._mine = local()
        self._buffers: SimpleQueue[torch.Tensor] = SimpleQueue()
        self._limits: dict[str, Limit] = {}
        self._large = Lock()

    def make(self, task: Task) -> Made:
        """Raises WeightsNotFinite, WeightsUnsupported, WeightsChanged and OutOfMemory."""
        try:
            return self._made(task)
        except RuntimeError as error:
            if not is_memory(error):
                raise
            raise OutOfMemory(
                f"Memory ran out in `{task.output.spec.name}`.",
                hint="`smooth_add` and `rebasin` hold whole tensors; the other methods need little.",
            ) from error

    def _made(self, task: Task) -> Made:
        scratch = self._scratch()
        if not task.start:
            _expect(task.expression)
        if isinstance(task.expression, Leaf) and task.expression.code == task.code:
            return self._kept(task, task.expression, scratch)
        size = number_bytes(task.code)
        buffer = self._buffer(task.length * size)
        out = buffer[: task.length * size].view(torch_dtype(task.code))
        self._fill(out, task, scratch)
        return Made(buffer.numpy().data[: task.length * size], buffer)

    def release(self, made: Made) -> None:
        """Its bytes are not needed any more."""
        if made.buffer is not None and len(made.buffer) <= _BUFFER:
            self._buffers.put(made.buffer)

    def _fill(self, out: torch.Tensor, task: Task, scratch: Scratch) -> None:
        expression, limit = task.expression, self._limit(task.code)
        if task.whole:
            large = task.length > _LARGE and has_whole(expression)
            with self._large if large else nullcontext():
                expression = settled(expression, scratch, self._device)
        step = task.length if not task.whole else max(PIECE // grain_of(expression), 1) * grain_of(expression)
        for start in range(task.start, task.start + task.length, step):
            count = min(step, task.start + task.length - start)
            values = scratch.compute(expression, start, count)
            limit.check(values, task.expression)
            out[start - task.start :][:count].copy_(values)

    def _kept(self, task: Task, leaf: Leaf, scratch: Scratch) -> Made:
        if leaf.code in FLOATS and not task.output.is_table:
            values = scratch.compute(leaf, task.start, task.length)
            self._limit(leaf.code).check(values, leaf)
        size = number_bytes(leaf.code)
        return Made(leaf.file.raw(leaf.key)[task.start * size :][: task.length * size])

    def _limit(self, code: str) -> Limit:
        if code not in self._limits:
            self._limits[code] = Limit(code)
        return self._limits[code]

    def _scratch(self) -> Scratch:
        if not hasattr(self._mine, "scratch"):
            self._mine.scratch = Scratch()
        scratch: Scratch = self._mine.scratch
        return scratch

    def _buffer(self, count: int) -> torch.Tensor:
        """uint8 of at least `count` bytes."""
        if count > _BUFFER:
            return torch.empty(count, dtype=torch.uint8)
        try:
            return self._buffers.get_nowait()
        except Empty:
            return torch.empty(_BUFFER, dtype=torch.uint8)


#: Numbers of a tensor of which only one is held as a whole at a time: 64 MB for each that a method needs.
_LARGE: Final = 1 << 24
#: Bytes of a piece of the widest type that is written.
_BUFFER: Final = PIECE * 8


def _expect(expression: Expression) -> None:
    for leaf in expression.leaves():
        leaf.file.expect(leaf.key)
