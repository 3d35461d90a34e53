"""What is no Exception, such as a panic in a library of Rust, is answered like any other bug."""

import subprocess
import sys
from pathlib import Path

import pytest

from contract.errors import JobConflict
from kernel.jobs import Job, Jobs
from kernel.roots import Roots
from kernel.writer import Writer
from tests.builders.pictures import NASTY, write
from tests.kernel.test_lifetime import with_startup_code
from tests.kernel_process import KernelProcess

PANIC = """
    class PanicException(BaseException):
        pass

    def panic(*args, **options):
        raise {what}

    import kernel.manifest, kernel.jobs
    kernel.manifest.pictures_of = panic
    kernel.jobs.Jobs.get = panic
"""


@pytest.mark.parametrize("what", ["PanicException('provoked')", "SystemExit(3)", "KeyboardInterrupt()"])
def test_a_panic_is_answered_and_the_kernel_lives_on(what: str, tmp_path: Path, demo_tagger: Path) -> None:
    images = [str(each) for each in write(tmp_path, NASTY[:1])]
    with KernelProcess(with_startup_code(tmp_path, PANIC.format(what=what))) as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        job = {
            "job_id": "a",
            "v": 2,
            "inputs": {"images": images},
            "settings": {"model": {"path": str(demo_tagger)}},
        }
        for method, params in (("tag", job), ("job/get", {"job_id": "a"})):
            error = kernel.request(method, params)["error"]
            assert (error["code"], error["data"]["kind"]) == (-32603, "internal_error")
        assert "result" in kernel.request("ping")
        kernel.close_stdin()
        assert kernel.wait() == 0
        kernel.kill()
        assert what.partition("(")[0] in kernel.stderr


def test_a_panic_at_the_top_of_the_process_is_a_bug(tmp_path: Path) -> None:
    code = "import kernel.serve\nkernel.serve.serve = lambda *args: exec('raise GeneratorExit')"
    with KernelProcess(with_startup_code(tmp_path, code)) as kernel:
        assert kernel.wait() == 1
        kernel.kill()
        assert "GeneratorExit" in kernel.stderr


def job_of(method: str) -> Job:
    writer = Writer(-1, lost=lambda: None, broken=lambda: None)
    return Job(
        job_id="a", attempt=1, method=method, digest="0", roots=Roots([]), writer=writer, progress_hz=10
    )


@pytest.mark.parametrize("has_ended", [True, False])
def test_a_job_id_with_equal_params_under_another_method_is_a_conflict(has_ended: bool) -> None:
    jobs = Jobs(max_running=1, outcomes_kept=8)
    first = jobs.admit(job_of("tag"))
    if has_ended:
        first.end(result=0)
        assert jobs.admit(job_of("tag")) is first
    with pytest.raises(JobConflict, match="method `tag`"):
        jobs.admit(job_of("train"))


def test_lifetime_can_be_imported_without_anything_from_outside() -> None:
    code = "import kernel.lifetime, sys; sys.exit('msgspec' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
