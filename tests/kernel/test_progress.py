"""How often a job speaks, and in which order."""

import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.builders.pictures import BROKEN, NASTY, ZOO, write
from tests.kernel_process import KernelProcess


def params(model: Path, images: list[Path], **settings: Any) -> dict[str, Any]:
    return {
        "job_id": "a",
        "v": 2,
        "inputs": {"images": [str(image) for image in images]},
        "settings": {"model": {"path": str(model)}, **settings},
    }


def test_progress_comes_ten_times_a_second_with_every_phase_and_the_last_step(
    tmp_path: Path, demo_tagger: Path
) -> None:
    (image,) = write(tmp_path, NASTY[:1])
    total = 3000
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(f"{json.dumps({'path': str(image)})}\n" * total, encoding="utf-8")
    request = {**params(demo_tagger, []), "inputs": {"manifest": str(manifest)}}
    request["settings"]["batch_size"] = 1
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        started = time.monotonic()
        assert kernel.request("tag", request, timeout=60)["result"]["tagged"] == total
        took_s = time.monotonic() - started
        progress = [each["params"] for each in kernel.notifications if each["method"] == "progress"]

    phases = [each["phase"] for each in progress]
    assert list(dict.fromkeys(phases)) == ["load", "tag"] == [phases[0], phases[-1]]
    steps = [each["step"] for each in progress if each["phase"] == "tag"]
    assert steps[0] == 0 and steps[-1] == total and steps == sorted(set(steps))
    assert all(each["total"] == total and each["unit"] == "images" for each in progress)
    # A phase each, the last step, and at most ten a second in between, of three thousand steps.
    assert len(progress) <= len(set(phases)) + 1 + 10 * took_s
    running = progress[2:]
    assert all(each["rate"] > 0 and each["eta_s"] >= 0 for each in running)
    assert running[-1]["eta_s"] == 0


def test_numbers_rise_and_everything_precedes_the_response(tmp_path: Path, demo_tagger: Path) -> None:
    images = write(tmp_path, [*ZOO[:10], *BROKEN[:5], *ZOO[10:20]])
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        answer = kernel.request("tag", params(demo_tagger, images, batch_size=3))
        kernel.request("ping")
        of_job = [each for each in kernel.messages if each.get("params", {}).get("job_id") == "a"]
        assert [each["params"]["seq"] for each in of_job] == list(range(1, len(of_job) + 1))
        assert kernel.messages.index(answer) > kernel.messages.index(of_job[-1])

        partials = [each["params"] for each in of_job if each["method"] == "partial"]
        tagged = [item["index"] for each in partials for item in each["items"]]
        failed = [item["index"] for each in partials for item in each["failed"]]
        assert tagged == sorted(tagged) and failed == sorted(failed) == list(range(10, 15))
        assert sorted(tagged + failed) == list(range(len(images)))
        assert [each["index"] for each in answer["result"]["failed"]] == failed


def test_partials_come_while_the_job_runs_and_not_at_its_end(tmp_path: Path, demo_tagger: Path) -> None:
    (image,) = write(tmp_path, NASTY[:1])
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        job = kernel.call("tag", params(demo_tagger, [image] * 900, batch_size=1))
        while kernel.receive().get("method") != "partial":
            pass
        assert [each["state"] for each in kernel.request("status")["result"]["jobs"]] == ["running"]
        assert kernel.answer(job)["result"]["tagged"] == 900


def test_the_numbers_of_the_next_attempt_go_on_from_the_last(tmp_path: Path, demo_tagger: Path) -> None:
    images = write(tmp_path, ZOO[:1])
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        lengths = []
        for attempt in (1, 2):
            kernel.request("tag", {**params(demo_tagger, images), "attempt": attempt})
            numbers = [each["params"]["seq"] for each in kernel.notifications if "seq" in each["params"]]
            assert numbers == list(range(1, len(numbers) + 1))
            lengths.append(len(numbers))
        assert lengths[1] > lengths[0]


def test_the_state_of_the_kernel_is_told_when_it_changes_only(tmp_path: Path, demo_tagger: Path) -> None:
    images = write(tmp_path, ZOO[:1])
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        for job_id in ("a", "b", "c"):
            kernel.request("tag", {**params(demo_tagger, images), "job_id": job_id})
        kernel.request("model/unload")
        states = [each["params"] for each in kernel.notifications if each["method"] == "kernel/state"]
        # The first may come before or after the model is there; then the unloading.
        loaded = [each["loaded"] for each in states]
        name = f"tagger:{demo_tagger}"
        assert loaded in ([[], [name], []], [[name], []])
        assert all(one != two for one, two in pairwise(states))
        assert kernel.request("status")["result"]["state"] == states[-1]
