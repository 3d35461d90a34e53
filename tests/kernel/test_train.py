"""`train` through a real kernel: what a host hears, how it stops, and how it goes on."""

import os
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from contract.methods.train import TrainOutcome
from contract.validation import decode
from tests.kernel.test_layers_at_run_time import RECORDER, packages
from tests.kernel_process import KernelProcess
from tests.trainer.run import runs
from trainer import fixtures
from trainer.checkpoints.folder import CheckpointFolder

#: More than any test waits for.
LONG = 5_000


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small SD1.5, in a folder of its own."""
    return Path(fixtures.write("sd15", tmp_path_factory.mktemp("model")).file)


class Place:
    """A folder with pictures, and what is asked for there."""

    def __init__(self, base: Path, folder: Path) -> None:
        self.base, self.folder = base, folder
        self.source = runs.pictures(folder / "source", count=2)
        self.checkpoints = CheckpointFolder(str(folder / "run" / "checkpoints"))

    def params(self, *, attempt: int = 1, **tables: Any) -> dict[str, Any]:
        """Those of one job."""
        return {
            "job_id": "a",
            "v": 2,
            "attempt": attempt,
            "settings": {"model": {"base": {"path": str(self.base)}}, **runs.QUICK, **tables},
            "inputs": {"folders": [str(self.source)]},
            "outputs": {
                "file": str(self.folder / "cat.safetensors"),
                "run": str(self.folder / "run"),
                "cache": str(self.folder / "cache"),
            },
        }

    def kernel(self) -> KernelProcess:
        """One that may work here."""
        return KernelProcess()

    def begin(self, kernel: KernelProcess, **given: Any) -> int:
        """Shake hands, send the job and wait for its first step; the id of the request."""
        kernel.initialize(roots=[self.folder, self.base.parent])
        request = kernel.call("train", self.params(**given))
        until_a_step(kernel)
        return request


def until_a_step(kernel: KernelProcess) -> None:
    """Wait for the next metrics."""
    while kernel.receive(timeout=40).get("method") != "partial":
        pass


def error_of(answer: dict[str, Any]) -> dict[str, Any]:
    """Its `data`."""
    data: dict[str, Any] = answer["error"]["data"]
    return data


@pytest.fixture
def place(base: Path, tmp_path: Path) -> Place:
    return Place(base, tmp_path)


def test_a_host_hears_of_every_phase_every_step_and_every_file(place: Place) -> None:
    sampling = {"prompts": ["a cat --w 64 --h 64 --s 1"], "every_steps": 3, "at_start": False}
    saving = {"every_steps": 2, "every_epochs": 0}
    with place.kernel() as kernel:
        request = place.begin(kernel, sampling=sampling, saving=saving)
        answer = kernel.answer(request, timeout=60)
        kernel.request("ping")
        said = [each for each in kernel.notifications if each["params"].get("job_id") == "a"]

    outcome = decode(answer["result"], TrainOutcome)
    assert (outcome.steps, outcome.samples, Path(str(outcome.file)).name) == (3, 1, "cat.safetensors")
    progress = [each["params"] for each in said if each["method"] == "progress"]
    phases = list(dict.fromkeys(each["phase"] for each in progress))
    assert phases == ["preflight", "load", "pictures", "latents", "text", "train", "save", "sample"]
    steps = [each for each in progress if each["phase"] == "train"]
    assert {each["total"] for each in steps} == {3} and {each["unit"] for each in steps} == {"steps"}
    assert {"loss", "loss_average", "lr_unet", "epoch", "images_per_s", "data_wait"} <= steps[-1][
        "metrics"
    ].keys()

    told: list[tuple[str, int]] = []
    for each in said:
        if each["method"] == "partial":
            told += [("step", item["step"]) for item in each["params"]["items"]]
        elif each["method"] == "artifact":
            told.append((each["params"]["role"], each["params"]["labels"]["step"]))
    assert told == [
        *[("step", 1), ("step", 2), ("lora_step", 2), ("step", 3)],
        *[("sample", 3), ("checkpoint", 3), ("lora", 3)],
    ]


def test_a_canceled_training_keeps_a_checkpoint_and_the_next_attempt_goes_on(place: Place) -> None:
    with place.kernel() as kernel:
        request = place.begin(kernel, training={"steps": LONG})
        kernel.request("cancel", {"job_id": "a"})
        answer = kernel.answer(request)
        data = error_of(answer)
        partial = decode(data["partial"], TrainOutcome)
        assert (data["kind"], partial.file) == ("canceled", None)
        assert f"Canceled after {partial.steps} of {LONG} steps." in answer["error"]["message"]
        assert partial.checkpoint == place.checkpoints.open(place.checkpoints.names()[-1]).path

        kernel.messages.clear()
        again = kernel.call("train", place.params(attempt=2, training={"steps": LONG}))
        until_a_step(kernel)
        first = kernel.messages[-1]["params"]["items"][0]["step"]
        assert first == partial.steps + 1
        kernel.request("cancel", {"job_id": "a", "mode": "now"})
        assert error_of(kernel.answer(again))["partial"]["steps"] >= first


def test_canceled_now_it_writes_no_checkpoint(place: Place) -> None:
    with place.kernel() as kernel:
        request = place.begin(kernel, training={"steps": LONG})
        kernel.request("cancel", {"job_id": "a", "mode": "now"})
        assert error_of(kernel.answer(request))["partial"]["checkpoint"] is None
    assert place.checkpoints.names() == []


def test_a_kernel_whose_host_goes_away_keeps_a_checkpoint(place: Place) -> None:
    with place.kernel() as kernel:
        place.begin(kernel, training={"steps": LONG})
        kernel.close_stdin()
        assert kernel.wait(20) == 0
    (name,) = place.checkpoints.names()
    assert place.checkpoints.is_whole(name)


def test_an_order_that_training_does_not_know_is_refused(place: Place) -> None:
    with place.kernel() as kernel:
        request = place.begin(kernel, training={"steps": LONG})
        refused = kernel.request("control", {"job_id": "a", "action": "dance"})
        assert error_of(refused)["where"] == "$.params.action"
        assert kernel.request("control", {"job_id": "a", "action": "save_now"})["result"]["accepted"]
        while kernel.receive(timeout=40).get("params", {}).get("role") != "checkpoint":
            pass
        kernel.request("cancel", {"job_id": "a", "mode": "now"})
        assert error_of(kernel.answer(request))["partial"]["checkpoint"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")
def test_memory_that_runs_out_is_told_with_what_needs_less_and_the_kernel_lives_on(place: Place) -> None:
    import resource

    sampling = {"prompts": ["a cat --w 8192 --h 8192 --s 1"], "every_steps": LONG, "at_start": False}
    with place.kernel() as kernel:
        request = place.begin(kernel, training={"steps": LONG}, sampling=sampling)
        sizes = Path(f"/proc/{kernel.pid}/statm").read_text().split()
        now = int(sizes[0]) * resource.getpagesize()
        # Enough for steps, not for one layer of such a picture.
        resource.prlimit(kernel.pid, resource.RLIMIT_AS, (now + (256 << 20), resource.RLIM_INFINITY))
        kernel.request("control", {"job_id": "a", "action": "sample_now"})
        answer = kernel.answer(request, timeout=50)
        data = error_of(answer)
        assert (answer["error"]["code"], data["kind"]) == (3001, "out_of_memory")
        assert not data.get("retryable")
        assert answer["error"]["message"] == "Memory ran out while a sample was made."
        assert data["details"]["phase"] == "sample"
        assert {"precision.compute": "bf16"} in data["details"]["changes"]
        assert '`precision.compute = "bf16"`' in data["hint"]
        assert "DefaultCPUAllocator" not in str(answer)
        assert "result" in kernel.request("status")


@pytest.mark.parametrize(
    ("field", "where"),
    [
        ("run", "$.params.outputs.run"),
        ("cache", "$.params.outputs.cache"),
        ("file", "$.params.outputs.file"),
        ("folders", "$.params.inputs.folders[0]"),
        ("checkpoint", "$.params.inputs.checkpoint"),
        ("vae", "$.params.settings.model.vae.path"),
        ("start_from", "$.params.settings.network.start_from.path"),
        ("prompts", "$.params.settings.sampling.file"),
    ],
)
def test_everything_lies_under_the_roots(
    place: Place, tmp_path_factory: pytest.TempPathFactory, field: str, where: str
) -> None:
    outside = str(tmp_path_factory.mktemp("outside") / "x.safetensors")
    params = place.params()
    match field:
        case "run" | "cache" | "file":
            params["outputs"][field] = outside
        case "folders":
            params["inputs"]["folders"] = [outside]
        case "checkpoint":
            params["inputs"]["checkpoint"] = outside
        case "vae":
            params["settings"]["model"]["vae"] = {"path": outside}
        case "start_from":
            params["settings"]["network"] = {"type": "lora", "start_from": {"path": outside}}
        case _:
            params["settings"]["sampling"] = {"file": outside, "every_steps": 1}
    with place.kernel() as kernel:
        kernel.initialize(roots=[place.folder, place.base.parent])
        data = error_of(kernel.request("train", params))
    assert (data["kind"], data["where"]) == ("path_outside_roots", where)


def test_a_text_that_is_a_link_out_of_the_roots_is_not_read(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret = tmp_path_factory.mktemp("outside") / "secret.txt"
    secret.write_text("nobody's business")
    caption = place.source / "2_cat/1.txt"
    caption.unlink()
    caption.symlink_to(secret)
    with place.kernel() as kernel:
        kernel.initialize(roots=[place.folder, place.base.parent])
        answer = kernel.request("train", place.params())
    data = error_of(answer)
    assert (data["kind"], data["where"]) == ("path_outside_roots", str(caption))
    assert str(secret) not in str(answer)


def test_what_can_be_known_at_once_is_said_before_torch_is_loaded(place: Place) -> None:
    (place.folder / "sitecustomize.py").write_text(textwrap.dedent(RECORDER), encoding="utf-8")
    imported = place.folder / "imported"
    path = os.pathsep.join([str(place.folder), os.environ.get("PYTHONPATH", "")])
    gone = place.params()
    gone["inputs"]["folders"] = [str(place.folder / "gone")]
    (place.folder / "taken.safetensors").write_bytes(b"")
    taken = place.params()
    taken["outputs"]["file"] = str(place.folder / "taken.safetensors")
    bare = place.params()
    bare["inputs"]["folders"] = [str(shutil.copytree(place.source / "2_cat", place.folder / "bare"))]
    (place.folder / "bare" / "1.txt").unlink()
    asked = [
        (gone, "file_missing"),
        (place.params(subsets=[{"name": "dog"}]), "file_missing"),
        (bare, "file_missing"),
        (taken, "output_exists"),
    ]
    with KernelProcess({"PYTHONPATH": path, "IMPORTED": str(imported)}) as kernel:
        kernel.initialize(roots=[place.folder, place.base.parent])
        for number, (params, kind) in enumerate(asked):
            answer = kernel.request("train", {**params, "job_id": str(number)}, timeout=40)
            assert error_of(answer)["kind"] == kind
        assert "torch" not in packages(imported)
        assert {"numpy", "trainer"} <= packages(imported)


def test_the_rate_is_that_of_steps_though_files_are_written_in_between(place: Place) -> None:
    with place.kernel() as kernel:
        request = place.begin(
            kernel, training={"steps": 6}, saving={"every_steps": 1, "every_epochs": 0, "keep_last": 1}
        )
        kernel.answer(request, timeout=60)
        said = [each["params"] for each in kernel.notifications if each["method"] == "progress"]
    # Each file is a phase of its own: counted from its end on, no step would ever have been done.
    assert "save" in {each["phase"] for each in said}
    assert max(each["step"] for each in said if each["phase"] == "train" and each["rate"]) > 2
