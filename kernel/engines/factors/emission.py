"""The tensors of an adapter that is made: each by a small piece of work, written in the order of the file."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from kernel.engines.factors.networks import is_finite, not_finite
from kernel.engines.factors.workers import Workers
from kernel.surgery import Surgery
from trainer.weights.adapter_file import Adapter
from trainer.weights.tensor_writer import TensorSpec, Written


class Emission(NamedTuple):
    """A tensor, and what makes its bytes; `make` runs on any thread."""

    spec: TensorSpec
    make: Callable[[], memoryview]


def copied(adapter: Adapter, key: str, name: str | None = None) -> Emission:
    """A tensor of the input, bit for bit, under the same or another name.

    Making it raises WeightsNotFinite for NaN and infinite numbers.
    """
    facts = adapter.file.header.tensors[key]

    def make() -> memoryview:
        if not is_finite(adapter.file.tensor(key)):
            raise not_finite(adapter, key)
        return adapter.file.raw(key)

    return Emission(TensorSpec(name or key, facts.dtype, tuple(facts.shape)), make)


def write(
    surgery: Surgery, workers: Workers, emissions: Sequence[Emission], metadata: Mapping[str, str]
) -> Written:
    """Make all tensors and write them to the output. Raises what making and writing raise."""
    makers = {each.spec.name: each.make for each in emissions}
    specs = [each.spec for each in emissions]
    with surgery.writer(specs, metadata, adapter_hashes=True) as writer:
        made = workers.map(lambda spec: makers[spec.name](), writer.order)
        for done, data in enumerate(made, 1):
            writer.write(data)
            surgery.step("write", done, len(specs))
        return writer.finish()
