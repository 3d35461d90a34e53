"""What an engine of surgery knows of its job: the files it reads, the one it makes, where it stands.

Every engine that works on files of weights takes a `Surgery` and nothing else of the kernel.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from contract.errors import (
    FileUnreadable,
    InvalidParams,
    JobCanceled,
    OutputExists,
    OutputIsInput,
    WeightsChanged,
)
from contract.methods.weights import FileOutput, WeightsFile
from contract.notifications import Artifact
from contract.rules.paths import to_wire
from kernel.jobs import Job
from trainer.weights.tensor_file import TensorFile, open_weights

if TYPE_CHECKING:
    import torch

    from trainer.weights.tensor_writer import TensorSpec, TensorWriter, Written

#: There is no registered media type of safetensors.
MEDIA_TYPE: Final = "application/octet-stream"
SUFFIX: Final = ".safetensors"
#: Bytes that are hashed between two looks at the wish to cancel: a few milliseconds.
_BLOCK: Final = 1 << 22


class Surgery:
    """One job of surgery; a context manager that closes the files. Its methods are for one thread.

    `output` is the real path of what is made, `inputs` what has been opened, in that order.
    """

    def __init__(
        self, job: Job, output: FileOutput | None, *, where_output: str = "$.params.outputs.file"
    ) -> None:
        """Raises PathNotAbsolute, PathOutsideRoots, InvalidParams and OutputExists."""
        self.job = job
        self.inputs: list[TensorFile] = []
        self.artifacts: list[Artifact] = []
        self.overwrite = output is not None and output.overwrite
        self._output = None if output is None else _output(job, output, where_output)
        self._files = ExitStack()
        self._opened: dict[str, TensorFile] = {}
        self._hashes: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    @property
    def output(self) -> str:
        """The real path of the file that is made. A job that makes none never asks."""
        assert self._output is not None
        return self._output

    @cached_property
    def device(self) -> "torch.device":
        """Where to compute: the GPU that this kernel was given, else the CPU. Loads torch."""
        import torch

        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def open(self, file: str | WeightsFile, where: str) -> TensorFile:
        """An input; the same file twice is opened once. `where` is its place in the params.

        Raises PathNotAbsolute, PathOutsideRoots, OutputIsInput, WeightsChanged where it has another SHA-256
        than it is to have, JobCanceled, and what `open_weights` raises.
        """
        named = file if isinstance(file, str) else file.path
        path = self.job.roots.resolve(named, where)
        opened = self._opened.get(path) or self._open(path)
        wanted = None if isinstance(file, str) else file.sha256
        if wanted is not None and self.sha256(opened) != wanted:
            raise WeightsChanged(
                f"`{to_wire(path)}` is not the file that is meant: its SHA-256 is another.",
                where=to_wire(path),
                details={"wanted": wanted, "found": self.sha256(opened)},
            )
        return opened

    def sha256(self, file: TensorFile) -> str:
        """SHA-256 of the whole file, lower-case hex, computed once. Raises FileUnreadable and JobCanceled."""
        if file.path not in self._hashes:
            self._hashes[file.path] = self._hashed(file)
        return self._hashes[file.path]

    def step(
        self, phase: str, done: int, total: int, *, unit: str = "tensors", message: str | None = None
    ) -> None:
        """Say where the job stands; to be called once a tensor. Raises JobCanceled."""
        self.check()
        self.job.progress(phase, done, total, unit=unit, message=message)

    def check(self) -> None:
        """Raises JobCanceled where somebody wants the job to stop."""
        if self.job.canceled:
            raise JobCanceled("Canceled; nothing was written.")

    def writer(
        self, tensors: "Iterable[TensorSpec]", metadata: Mapping[str, str], **options: Any
    ) -> "TensorWriter":
        """The writer of the output, which knows the inputs. Raises what it raises."""
        from trainer.weights.tensor_writer import TensorWriter

        return TensorWriter(
            self.output, tensors, metadata, overwrite=self.overwrite, inputs=self.inputs, **options
        )

    def announce(self, written: "Written", role: str) -> Artifact:
        """Tell the host of the finished file."""
        artifact = Artifact(
            job_id=self.job.job_id,
            role=role,
            path=to_wire(written.path),
            bytes=written.bytes,
            sha256=written.sha256,
            media_type=MEDIA_TYPE,
        )
        self.job.artifact(artifact)
        self.artifacts.append(artifact)
        return artifact

    def _open(self, path: str) -> TensorFile:
        if self._output is not None and _is_same(path, self._output):
            raise OutputIsInput(
                f"`{to_wire(path)}` is an input and cannot be the output, too.",
                where=to_wire(path),
                hint="Name another file for the output.",
            )
        opened = self._files.enter_context(open_weights(path))
        self._opened[path] = opened
        self.inputs.append(opened)
        return opened

    def _hashed(self, file: TensorFile) -> str:
        digest, done = hashlib.sha256(), 0
        try:
            with open(file.path, "rb", buffering=0) as stream:
                while block := stream.read(_BLOCK):
                    digest.update(block)
                    done += len(block)
                    self.step("hash", done, file.size, unit="bytes", message=os.path.basename(file.path))
        except OSError as error:
            named = to_wire(file.path)
            raise FileUnreadable(f"`{named}` cannot be read.", where=named) from error
        return digest.hexdigest()


def _output(job: Job, output: FileOutput, where: str) -> str:
    path = job.roots.resolve(output.file, where)
    if not path.lower().endswith(SUFFIX):
        raise InvalidParams(f"`{output.file}` does not end in {SUFFIX}.", where=where)
    if not output.overwrite and os.path.lexists(path):
        raise OutputExists(
            f"`{output.file}` is there already.",
            where=output.file,
            hint="Name another file, or overwrite it.",
        )
    return path


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return path == other
