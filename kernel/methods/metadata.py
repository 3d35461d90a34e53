"""`metadata`: the header of a safetensors file edited; its tensors pass through untouched."""

import os
import time
from typing import TYPE_CHECKING, Final

from contract.methods.metadata import MetadataOutcome, MetadataParams
from contract.rules.paths import to_wire
from kernel.jobs import Job
from kernel.session import Session

if TYPE_CHECKING:
    from kernel.surgery import Surgery
    from trainer.weights.tensor_file import TensorFile
    from trainer.weights.tensor_writer import TensorWriter, Written

#: Bytes that pass at once: fits into a core's cache, and is canceled within a millisecond.
_BLOCK: Final = 1 << 20


def run(params: MetadataParams, job: Job, session: Session) -> MetadataOutcome:
    """Edit the metadata of a file, in its place where `params` names no output: by then there is the old
    file or the new one, never half of either. A file that needs no change is left alone there.

    Raises PathError, WeightsError, DiskFull and JobCanceled.
    """
    from kernel.surgery import Surgery
    from trainer.weights.metadata import edited

    started = time.perf_counter()
    with Surgery(job, params.outputs) as surgery:
        file = surgery.open(params.inputs.file, "$.params.inputs.file")
        before, settings = file.header.metadata, params.settings
        after = edited(before, set_=settings.set, remove=settings.remove, strip_paths=settings.strip_paths)
        written = _written(surgery, file, after, in_place=params.outputs is None)
    return MetadataOutcome(
        file=to_wire(written.path),
        bytes=written.bytes,
        sha256=written.sha256,
        added=[key for key in after if key not in before],
        changed=[key for key in after if key in before and after[key] != before[key]],
        removed=[key for key in before if key not in after],
        artifacts=surgery.artifacts,
        timings={"wall_s": round(time.perf_counter() - started, 4)},
    )


def _written(
    surgery: "Surgery", file: "TensorFile", metadata: dict[str, str], *, in_place: bool
) -> "Written":
    from trainer.weights.tensor_writer import TensorSpec, TensorWriter, Written

    if in_place and metadata == file.header.metadata:
        return Written(file.path, file.size, surgery.sha256(file))
    tensors = file.header.tensors
    specs = [TensorSpec(name, tensors[name].dtype, tuple(tensors[name].shape)) for name in file.names]
    with (
        TensorWriter(file.path, specs, metadata, replaces=file, inputs=[file], keep_order=True)
        if in_place
        else surgery.writer(specs, metadata, keep_order=True)
    ) as writer:
        _copy(surgery, file, writer)
        written = writer.finish()
    surgery.announce(written, "weights")
    return written


def _copy(surgery: "Surgery", file: "TensorFile", writer: "TensorWriter") -> None:
    """All the data of `file`, in its order."""
    buffer = memoryview(bytearray(_BLOCK))
    name = os.path.basename(file.where)
    for start in range(0, file.data_bytes, _BLOCK):
        surgery.step("copy", start, file.data_bytes, unit="bytes", message=name)
        part = buffer[: min(_BLOCK, file.data_bytes - start)]
        file.read(start, part)
        writer.write(part)
    surgery.step("copy", file.data_bytes, file.data_bytes, unit="bytes", message=name)
