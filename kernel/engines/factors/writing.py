"""Writes a LoRA whose modules are made one after the other, each as its turn in the file comes."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

from kernel.engines.factors.pieces import Frame, Made
from kernel.engines.factors.workers import Workers
from kernel.surgery import Surgery
from trainer.weights.adapter_keys import Role
from trainer.weights.dtypes import bytes_of, torch_dtype
from trainer.weights.tensor_writer import Written

#: What is made of a module, by its place among the frames.
Make = Callable[[int], Made]


class Wrote(NamedTuple):
    """A LoRA that was written. `made` are its modules without their factors, by the place among the frames;
    `seconds` what making them took, and what then brought the file to the disk."""

    file: Written
    made: list[Made]
    seconds: dict[str, float]


def write_lora(
    surgery: Surgery, frames: Sequence[Frame], make: Make, metadata: Mapping[str, str], phase: str
) -> Wrote:
    """Write the modules that `make` makes on several threads, in the order of the file.

    Raises what `make` and the writer raise, and JobCanceled between two modules; then nothing is left of the
    file.
    """
    started = time.perf_counter()
    places = _Places(frames)
    specs = [spec for frame in frames for spec in frame.module.specs(frame.naming)]
    made: dict[int, Made] = {}
    with surgery.writer(specs, metadata, adapter_hashes=True) as writer, Workers() as workers:
        order = [places[spec.name] for spec in writer.order]
        products = workers.map(make, _first_uses(order))
        waiting: dict[tuple[int, Role], tuple[torch.Tensor, ...]] = {}
        for index, role in order:
            if role == "alpha":
                writer.write(bytes_of(_alpha(frames[index])))
                continue
            if (index, role) not in waiting:
                surgery.step(phase, len(made), len(frames), unit="modules")
                product = next(products)
                waiting[index, "up"], waiting[index, "down"] = product.up, product.down
                made[index] = product._replace(up=(), down=())
                del product
            for piece in waiting.pop((index, role)):
                writer.write(bytes_of(piece))
        surgery.step("write", len(frames), len(frames), unit="modules")
        finishing = time.perf_counter()
        written = writer.finish()
    seconds = {"merge_s": finishing - started, "write_s": time.perf_counter() - finishing}
    return Wrote(written, [made[index] for index in range(len(frames))], seconds)


class _Places(dict[str, tuple[int, Role]]):
    """Which frame, and what of it, each key of the output is."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        roles: tuple[Role, ...] = ("up", "down", "alpha")
        super().__init__(
            (frame.module.key(role, frame.naming), (index, role))
            for index, frame in enumerate(frames)
            for role in roles
        )


def _first_uses(order: Sequence[tuple[int, Role]]) -> list[int]:
    return list(dict.fromkeys(index for index, role in order if role != "alpha"))


def _alpha(frame: Frame) -> torch.Tensor:
    return torch.tensor(frame.module.alpha, dtype=torch_dtype(frame.module.alpha_type))
