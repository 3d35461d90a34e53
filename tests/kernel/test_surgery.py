"""What engines of surgery are given: inputs under the roots, one output, and a way to be canceled."""

import hashlib
import os
import sys
from pathlib import Path

import pytest

from contract.errors import (
    FileMissing,
    InvalidParams,
    JobCanceled,
    OutputExists,
    OutputIsInput,
    PathOutsideRoots,
    WeightsChanged,
    WeightsFormat,
)
from contract.methods.weights import FileOutput, WeightsFile
from contract.rules.paths import to_wire
from kernel.jobs import Job, request_cancel
from kernel.roots import Roots
from kernel.surgery import Surgery
from kernel.writer import Writer
from tests.orchestrator.models.files import write_model

WHERE = "$.params.settings.model.path"


def _job(folder: Path) -> Job:
    writer = Writer(-1, lost=lambda: None, broken=lambda: None)
    return Job(
        job_id="a",
        attempt=1,
        method="merge",
        digest="0",
        roots=Roots([str(folder)]),
        writer=writer,
        progress_hz=10,
    )


def _surgery(folder: Path, output: Path | str | None = None, **options: bool) -> Surgery:
    return Surgery(_job(folder), None if output is None else FileOutput(file=str(output), **options))


def test_inputs_are_opened_once_in_their_order(tmp_path: Path) -> None:
    a, b = write_model(tmp_path / "a.safetensors"), write_model(tmp_path / "b.safetensors")
    with _surgery(tmp_path) as surgery:
        first = surgery.open(str(a), WHERE)
        second = surgery.open(WeightsFile(path=str(b)), WHERE)
        assert surgery.open(str(a), WHERE) is first
        assert surgery.inputs == [first, second]
        assert bytes(first.raw("x")) == b"\0" * 4


def test_files_are_closed_at_the_end(tmp_path: Path) -> None:
    a = write_model(tmp_path / "a.safetensors")
    with _surgery(tmp_path) as surgery:
        file = surgery.open(str(a), WHERE)
    with pytest.raises((ValueError, OSError)):
        file.raw("x")


def test_a_file_may_have_to_be_that_very_one(tmp_path: Path) -> None:
    a = write_model(tmp_path / "a.safetensors")
    sha256 = hashlib.sha256(a.read_bytes()).hexdigest()
    with _surgery(tmp_path) as surgery:
        file = surgery.open(WeightsFile(path=str(a), sha256=sha256), WHERE)
        assert surgery.sha256(file) == sha256
        with pytest.raises(WeightsChanged) as refused:
            surgery.open(WeightsFile(path=str(a), sha256="0" * 64), WHERE)
        assert refused.value.where == to_wire(str(a))
        assert refused.value.details == {"wanted": "0" * 64, "found": sha256}


def test_what_cannot_be_an_input_is_said_with_its_place(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    outside = write_model(tmp_path / "outside.safetensors")
    inside.mkdir()
    (inside / "a.ckpt").write_bytes(b"PK\x03\x04")
    with _surgery(inside) as surgery:
        with pytest.raises(PathOutsideRoots) as refused:
            surgery.open(str(outside), WHERE)
        assert refused.value.where == WHERE
        with pytest.raises(FileMissing):
            surgery.open(str(inside / "no.safetensors"), WHERE)
        with pytest.raises(WeightsFormat):
            surgery.open(str(inside / "a.ckpt"), WHERE)
        assert surgery.inputs == []


def test_an_output_ends_as_it_should_and_lies_under_the_roots(tmp_path: Path) -> None:
    with pytest.raises(InvalidParams, match="does not end in") as refused:
        _surgery(tmp_path, tmp_path / "a.ckpt")
    assert refused.value.where == "$.params.outputs.file"
    with pytest.raises(PathOutsideRoots):
        _surgery(tmp_path / "inside", tmp_path / "a.safetensors")


def test_an_output_that_is_there_is_refused_unless_it_may_be_overwritten(tmp_path: Path) -> None:
    there = write_model(tmp_path / "a.safetensors")
    with pytest.raises(OutputExists):
        _surgery(tmp_path, there)
    surgery = _surgery(tmp_path, there, overwrite=True)
    assert (surgery.output, surgery.overwrite) == (os.path.realpath(there), True)


def test_an_input_is_never_the_output(tmp_path: Path) -> None:
    there = write_model(tmp_path / "a.safetensors")
    surgery = _surgery(tmp_path, there, overwrite=True)
    with pytest.raises(OutputIsInput):
        surgery.open(str(there), WHERE)


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a privilege on Windows")
def test_neither_is_it_by_another_name(tmp_path: Path) -> None:
    there = write_model(tmp_path / "a.safetensors")
    (tmp_path / "link.safetensors").symlink_to(there)
    os.link(there, tmp_path / "hard.safetensors")
    for name in ("link.safetensors", "hard.safetensors"):
        with pytest.raises(OutputIsInput):
            _surgery(tmp_path, there, overwrite=True).open(str(tmp_path / name), WHERE)


def test_a_wish_to_cancel_is_seen_at_the_next_step(tmp_path: Path) -> None:
    a = write_model(tmp_path / "a.safetensors", {"x": ("F32", [1 << 21])})
    job = _job(tmp_path)
    with Surgery(job, None) as surgery:
        file = surgery.open(str(a), WHERE)
        surgery.check()
        request_cancel(job, "graceful")
        with pytest.raises(JobCanceled):
            surgery.step("merge", 1, 2)
        with pytest.raises(JobCanceled):
            surgery.sha256(file)
