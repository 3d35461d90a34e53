"""What a job id means: repeats, conflicts, attempts; cancels at any moment; shutdown; the roots of a job."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.builders.pictures import NASTY, ZOO, write
from tests.kernel_process import KernelProcess

Message = dict[str, Any]


def tag(job_id: str, model: Path, images: Sequence[Path], attempt: int = 1, **settings: Any) -> Message:
    return {
        "job_id": job_id,
        "v": 2,
        "attempt": attempt,
        "inputs": {"images": [str(image) for image in images]},
        "settings": {"model": {"path": str(model)}, **settings},
    }


def long(job_id: str, model: Path, folder: Path, count: int = 30_000) -> Message:
    """The params of a job over so many pictures: it goes on until it is canceled."""
    (image,) = write(folder, NASTY[:1])
    manifest = folder / "manifest.jsonl"
    manifest.write_text(json.dumps({"path": str(image)}) + f"\n{json.dumps({'path': str(image)})}" * count)
    return {**tag(job_id, model, []), "inputs": {"manifest": str(manifest)}}


def line(request_id: Any, method: str, params: Message) -> bytes:
    message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
    return json.dumps(message).encode() + b"\n"


def wait_for(kernel: KernelProcess, method: str, **params: Any) -> Message:
    """The next notification of that method with these values in its params."""
    while True:
        message = kernel.receive()
        if message.get("method") == method and params.items() <= message["params"].items():
            return message


def of_job(kernel: KernelProcess, job_id: str) -> list[Message]:
    return [each for each in kernel.notifications if each["params"].get("job_id") == job_id]


def assert_in_order(kernel: KernelProcess, job_id: str, request_id: Any) -> None:
    """`seq` rises, everything precedes the one response, nothing follows it."""
    kernel.request("ping")  # whatever might follow has come before its answer
    said = [each["params"]["seq"] for each in of_job(kernel, job_id)]
    assert said == sorted(set(said)) and (not said or said[0] == 1)
    places = [place for place, each in enumerate(kernel.messages) if each.get("id") == request_id]
    assert len(places) == 1
    later = kernel.messages[places[0] :]
    assert [each for each in later if each.get("params", {}).get("job_id") == job_id] == []


# Identity ---------------------------------------------------------------------------------------------------


def test_a_repeated_job_gets_its_outcome_again_marked_as_such(tmp_path: Path, demo_tagger: Path) -> None:
    images = write(tmp_path, ZOO[:2])
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        first = kernel.request("tag", tag("a", demo_tagger, images))["result"]
        assert first["replayed"] is False
        said = len(of_job(kernel, "a"))
        # The order of keys does not make another job.
        again = dict(reversed(tag("a", demo_tagger, images).items()))
        assert kernel.request("tag", again)["result"] == {**first, "replayed": True}
        assert len(of_job(kernel, "a")) == said
        record = kernel.request("job/get", {"job_id": "a"})["result"]
        assert (record["state"], record["result"]) == ("succeeded", first)


def test_failed_and_canceled_outcomes_are_repeated_too(tmp_path: Path, demo_tagger: Path) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        failing = tag("failed", tmp_path, [tmp_path / "x.png"])
        error = kernel.request("tag", failing)["error"]
        assert error["data"]["kind"] == "model_incomplete" and "replayed" not in error["data"]
        assert kernel.request("tag", failing)["error"] == {
            **error,
            "data": {**error["data"], "replayed": True},
        }
        assert kernel.request("job/get", {"job_id": "failed"})["result"]["state"] == "failed"

        canceled = long("canceled", demo_tagger, tmp_path)
        job = kernel.call("tag", canceled)
        wait_for(kernel, "partial")
        kernel.request("cancel", {"job_id": "canceled"})
        error = kernel.answer(job)["error"]
        assert kernel.request("tag", canceled)["error"] == {
            **error,
            "data": {**error["data"], "replayed": True},
        }
        assert kernel.request("job/get", {"job_id": "canceled"})["result"]["state"] == "canceled"


def test_the_same_job_id_with_other_params_is_a_conflict(tmp_path: Path, demo_tagger: Path) -> None:
    images = write(tmp_path, ZOO[:2])
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        assert "result" in kernel.request("tag", tag("a", demo_tagger, images))
        for other in (
            tag("a", demo_tagger, images[:1]),
            tag("a", demo_tagger, images, general_threshold=0.5),
            {**tag("a", demo_tagger, images), "ext": {"x": 1}},
        ):
            error = kernel.request("tag", other)["error"]
            assert (error["code"], error["data"]["kind"]) == (1003, "conflict")
            assert error["data"]["where"] == "$.params.job_id"


def test_attempts_go_up_and_never_down(tmp_path: Path, demo_tagger: Path) -> None:
    images = write(tmp_path, ZOO[:2])
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        first = kernel.request("tag", tag("a", demo_tagger, images))["result"]
        second = kernel.request("tag", tag("a", demo_tagger, images, attempt=3))["result"]
        assert second["replayed"] is False and second["tag_counts"] == first["tag_counts"]
        assert kernel.request("tag", tag("a", demo_tagger, images, attempt=3))["result"]["replayed"] is True
        error = kernel.request("tag", tag("a", demo_tagger, images, attempt=2))["error"]
        assert (error["code"], error["data"]["kind"]) == (1003, "conflict")
        assert error["data"]["details"] == {"state": "succeeded", "attempt": 3}
        assert kernel.request("job/get", {"job_id": "a"})["result"]["attempt"] == 3


def test_while_a_job_runs_its_repeat_and_any_other_job_are_refused(tmp_path: Path, demo_tagger: Path) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        running = long("a", demo_tagger, tmp_path)
        job = kernel.call("tag", running)
        wait_for(kernel, "partial")
        for repeat in (running, {**running, "attempt": 2}):
            error = kernel.request("tag", repeat)["error"]
            assert (error["code"], error["data"]["kind"]) == (1003, "already_running")
        assert kernel.request("tag", {**running, "ext": {"x": 1}})["error"]["data"]["kind"] == "conflict"

        error = kernel.request("tag", tag("b", demo_tagger, [tmp_path / "x.png"]))["error"]
        assert (error["code"], error["data"]["kind"], error["data"]["retryable"]) == (1004, "busy", True)
        assert error["data"]["details"] == {"running": ["a"]}
        assert kernel.request("job/get", {"job_id": "b"})["error"]["data"]["kind"] == "unknown_job"

        status = kernel.request("status")["result"]
        assert [(each["job_id"], each["state"]) for each in status["jobs"]] == [("a", "running")]
        assert status["jobs"][0]["progress"]["phase"] == "tag"
        kernel.request("cancel", {"job_id": "a"})
        assert kernel.answer(job)["error"]["code"] == -32800
        # The answer is the end of the job: there is room for the next one at once.
        assert "result" in kernel.request("tag", tag("b", demo_tagger, [tmp_path / "x.png"]))


def test_refused_params_leave_the_job_id_free(tmp_path: Path, demo_tagger: Path) -> None:
    images = write(tmp_path, ZOO[:1])
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        wrong = tag("a", demo_tagger, images, general_threshold=7)
        assert kernel.request("tag", wrong)["error"]["code"] == -32602
        assert kernel.request("job/get", {"job_id": "a"})["error"]["data"]["kind"] == "unknown_job"
        assert kernel.request("tag", tag("a", demo_tagger, images))["result"]["tagged"] == 1


def test_the_last_256_outcomes_are_kept(tmp_path: Path, demo_tagger: Path) -> None:
    with KernelProcess() as kernel:
        kept = kernel.initialize(roots=[tmp_path])["limits"]["outcomes_kept"]
        assert kept == 256
        ids = [kernel.call("tag", tag("job_0", tmp_path, [tmp_path / "x.png"]))]
        for number in range(1, kept + 2):
            kernel.answer(ids[-1])
            ids.append(kernel.call("tag", tag(f"job_{number}", tmp_path, [tmp_path / "x.png"])))
        kernel.answer(ids[-1])
        assert kernel.request("job/get", {"job_id": "job_0"})["error"]["data"]["kind"] == "unknown_job"
        for number in (1, 2, kept, kept + 1):
            record = kernel.request("job/get", {"job_id": f"job_{number}"})["result"]
            assert record["error"]["data"]["kind"] == "model_incomplete"
        # What is forgotten runs again; what is kept is repeated.
        forgotten = kernel.request("tag", tag("job_0", tmp_path, [tmp_path / "x.png"]))["error"]
        assert "replayed" not in forgotten["data"]
        known = kernel.request("tag", tag("job_200", tmp_path, [tmp_path / "x.png"]))["error"]
        assert known["data"]["replayed"] is True


@pytest.mark.parametrize("job_id", ["", "a b", "a/b", "x" * 65, "ä", "a\n", None, 5])
def test_a_job_id_is_made_of_few_characters(job_id: Any, tmp_path: Path) -> None:
    with KernelProcess() as kernel:
        kernel.initialize()
        error = kernel.request("tag", {**tag("a", tmp_path, [tmp_path / "x"]), "job_id": job_id})["error"]
        assert (error["code"], error["data"]["where"]) == (-32602, "$.params.job_id")


# Cancellation -----------------------------------------------------------------------------------------------


def assert_canceled(kernel: KernelProcess, job_id: str, request_id: Any) -> Message:
    error = kernel.answer(request_id)["error"]
    assert (error["code"], error["data"]["kind"], error["data"]["job_id"]) == (-32800, "canceled", job_id)
    partial: Message = error["data"]["partial"]
    assert partial["tagged"] >= 0 and partial["failed"] == []
    assert_in_order(kernel, job_id, request_id)
    assert kernel.request("cancel", {"job_id": job_id})["result"]["state"] == "already_finished"
    return partial


def test_a_cancel_right_behind_its_job_always_finds_it(tmp_path: Path, demo_tagger: Path) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        for number in range(20):
            job_id = f"job_{number}"
            params = {**long(job_id, demo_tagger, tmp_path, count=1000)}
            cancel = line(f"cancel {number}", "cancel", {"job_id": job_id})
            kernel.send_raw(line(job_id, "tag", params) + cancel)
            assert kernel.answer(f"cancel {number}")["result"]["state"] == "canceling"
            assert_canceled(kernel, job_id, job_id)


def test_a_cancel_before_the_model_is_loaded_does_not_load_it(tmp_path: Path, demo_tagger: Path) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        params = long("a", demo_tagger, tmp_path)
        kernel.send_raw(line("a", "tag", params) + line("c", "cancel", {"job_id": "a"}))
        assert assert_canceled(kernel, "a", "a")["tagged"] == 0
        assert kernel.request("model/unload")["result"] == {"unloaded": [], "in_use": []}


@pytest.mark.parametrize("phase", ["load", "tag"])
@pytest.mark.parametrize("mode", ["graceful", "now"])
def test_a_cancel_during_a_phase_ends_the_job_with_one_answer(
    phase: str, mode: str, tmp_path: Path, demo_tagger: Path
) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        job = kernel.call("tag", long("a", demo_tagger, tmp_path))
        wait_for(kernel, "progress", phase=phase)
        state = kernel.request("cancel", {"job_id": "a", "mode": mode})["result"]["state"]
        assert state == "canceling"
        assert_canceled(kernel, "a", job)


def test_a_canceled_job_says_what_it_had_finished(tmp_path: Path, demo_tagger: Path) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        job = kernel.call("tag", long("a", demo_tagger, tmp_path))
        for _ in range(5):
            wait_for(kernel, "partial")
        cancels = [kernel.call("cancel", {"job_id": "a"}) for _ in range(3)]
        states = [kernel.answer(each)["result"]["state"] for each in cancels]
        assert states[0] == "canceling" and set(states) <= {"canceling", "already_finished"}
        partial = assert_canceled(kernel, "a", job)
        items = [item for each in of_job(kernel, "a") for item in each["params"].get("items", [])]
        assert partial["tagged"] == len(items) > 0
        assert [item["index"] for item in items] == list(range(len(items)))
        assert partial["provider"] and partial["tag_counts"]
        kernel.close_stdin()
        assert kernel.wait() == 0
        kernel.kill()
        assert kernel.stderr == "", "a cancel is nothing to complain about"


def test_cancels_that_race_with_the_end_leave_one_answer(tmp_path: Path, demo_tagger: Path) -> None:
    (image,) = write(tmp_path, NASTY[:1])
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        outcomes = set()
        for number in range(60):
            job_id = f"job_{number}"
            request = line(job_id, "tag", tag(job_id, demo_tagger, [image] * (number * 5 + 1), batch_size=1))
            kernel.send_raw(request)
            for _ in range(number // 20):
                wait_for(kernel, "progress", phase="tag", job_id=job_id)
            cancel = kernel.request("cancel", {"job_id": job_id})["result"]["state"]
            answer = kernel.answer(job_id)
            assert ("result" in answer) or answer["error"]["code"] == -32800
            assert "result" in answer or cancel == "canceling"
            assert_in_order(kernel, job_id, job_id)
            outcomes.add("result" in answer)
        assert False in outcomes


def test_a_cancel_ends_a_batch_that_is_being_computed(tmp_path: Path) -> None:
    from tests.builders.vit import build_vit_tagger

    build_vit_tagger(tmp_path / "vit", size=224, width=384, depth=6, heads=6, tags=64)
    (image,) = write(tmp_path, ZOO[:1])
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path])
        job = kernel.call("tag", tag("a", tmp_path / "vit", [image] * 512, batch_size=256))
        wait_for(kernel, "progress", phase="tag")
        kernel.request("cancel", {"job_id": "a"})
        # Two batches of 256 take many seconds here.
        assert assert_canceled(kernel, "a", job)["tagged"] == 0
        # The process is as good as new.
        again = kernel.request("tag", tag("b", tmp_path / "vit", [image]))
        assert again["result"]["tagged"] == 1


def test_a_cancel_of_an_unknown_job_says_so() -> None:
    with KernelProcess() as kernel:
        kernel.initialize()
        assert kernel.request("cancel", {"job_id": "nobody"})["result"]["state"] == "unknown_job"


# Control, shutdown, roots -----------------------------------------------------------------------------------


def test_an_action_that_the_method_does_not_know_is_refused(tmp_path: Path, demo_tagger: Path) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        unknown = kernel.request("control", {"job_id": "a", "action": "save_now"})["error"]
        assert unknown["data"]["kind"] == "unknown_job"
        job = kernel.call("tag", long("a", demo_tagger, tmp_path))
        wait_for(kernel, "partial")
        for action in ("save_now", "sample_now", "stop_after_epoch", "dance"):
            error = kernel.request("control", {"job_id": "a", "action": action})["error"]
            assert (error["code"], error["data"]["where"]) == (-32602, "$.params.action")
        kernel.request("cancel", {"job_id": "a"})
        assert_canceled(kernel, "a", job)


def test_shutdown_lets_a_job_finish_within_its_deadline(tmp_path: Path, demo_tagger: Path) -> None:
    (image,) = write(tmp_path, NASTY[:1])
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        job = kernel.call("tag", tag("a", demo_tagger, [image] * 900, batch_size=1))
        wait_for(kernel, "partial")
        shutdown = kernel.call("shutdown", {"deadline_s": 60})
        assert kernel.answer(job)["result"]["tagged"] == 900
        assert kernel.answer(shutdown)["result"] == {"finished": ["a"], "canceled": []}
        kernel.notify("exit")
        assert kernel.wait() == 0


def test_shutdown_without_a_deadline_cancels_and_takes_no_more_jobs(
    tmp_path: Path, demo_tagger: Path
) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        job = kernel.call("tag", long("a", demo_tagger, tmp_path))
        wait_for(kernel, "partial")
        assert kernel.request("shutdown")["result"] == {"finished": [], "canceled": ["a"]}
        assert kernel.answer(job)["error"]["data"]["kind"] == "canceled"
        error = kernel.request("tag", tag("b", demo_tagger, [tmp_path / "x.png"]))["error"]
        assert (error["code"], error["data"]["kind"]) == (1005, "shutting_down")
        assert kernel.request("status")["result"]["accepting_jobs"] is False
        # What ended before is still known.
        assert kernel.request("tag", long("a", demo_tagger, tmp_path))["error"]["data"]["replayed"] is True
        kernel.close_stdin()
        assert kernel.wait() == 0


def test_a_second_shutdown_cuts_the_first_one_short(tmp_path: Path, demo_tagger: Path) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        job = kernel.call("tag", long("a", demo_tagger, tmp_path))
        wait_for(kernel, "partial")
        patient = kernel.call("shutdown", {"deadline_s": 3600})
        assert kernel.request("shutdown")["result"]["canceled"] == ["a"]
        assert kernel.answer(patient)["result"]["finished"] == ["a"]
        assert_canceled(kernel, "a", job)


def test_new_roots_do_not_reach_into_a_running_job(tmp_path: Path, demo_tagger: Path) -> None:
    pictures, elsewhere = tmp_path / "pictures", tmp_path / "elsewhere"
    (image,), (other,) = write(pictures, ZOO[:1]), write(elsewhere, ZOO[:1])
    with KernelProcess() as kernel:
        kernel.initialize(roots=[pictures, demo_tagger])
        job = kernel.call("tag", long("a", demo_tagger, pictures))
        wait_for(kernel, "partial")
        granted = kernel.request("roots/set", {"roots": [str(elsewhere), str(demo_tagger)]})["result"]
        assert granted == {"roots": [os.path.realpath(elsewhere), os.path.realpath(demo_tagger)]}
        for _ in range(3):
            items = wait_for(kernel, "partial", failed=[])["params"]["items"]
            assert items and all(Path(item["image"]).parent == pictures for item in items)
        kernel.request("cancel", {"job_id": "a"})
        assert_canceled(kernel, "a", job)
        refused = kernel.request("tag", tag("b", demo_tagger, [image]))["error"]
        assert refused["data"]["kind"] == "path_outside_roots"
        assert "result" in kernel.request("tag", tag("c", demo_tagger, [other]))


def test_a_link_to_a_folder_is_followed_anew_by_every_job(tmp_path: Path, demo_tagger: Path) -> None:
    write(tmp_path / "one", [ZOO[0]._replace(name="x.jpg")])
    write(tmp_path / "two", [ZOO[4]._replace(name="x.jpg")])
    link = tmp_path / "link"
    sizes = []
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        for name in ("one", "two"):
            link.unlink(missing_ok=True)
            link.symlink_to(tmp_path / name)
            kernel.request("tag", tag(name, demo_tagger, [link / "x.jpg"]))
            (item,) = [item for each in of_job(kernel, name) for item in each["params"].get("items", [])]
            sizes.append((item["width"], item["height"]))
    assert sizes == [ZOO[0].size, ZOO[4].size]


def test_roots_whose_names_are_no_text_are_granted_and_named_as_uris(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system takes only Unicode")
    uri = f"file://{tmp_path}/caf%E9"
    with KernelProcess() as kernel:
        kernel.initialize(roots=[uri])
        assert kernel.request("roots/set", {"roots": [uri]})["result"]["roots"] == [
            f"file://{os.path.realpath(tmp_path)}/caf%E9"
        ]


def test_an_answer_to_anything_waits_for_no_job(tmp_path: Path, demo_tagger: Path) -> None:
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger])
        job = kernel.call("tag", long("a", demo_tagger, tmp_path))
        wait_for(kernel, "partial")
        assert kernel.request("job/get", {"job_id": "a"})["result"]["state"] == "running"
        assert kernel.request("ping", {"echo": "x"})["result"]["echo"] == "x"
        unload = kernel.request("model/unload")["result"]
        assert unload == {"unloaded": [], "in_use": [f"tagger:{demo_tagger}"]}
        wait_for(kernel, "partial")
        kernel.request("cancel", {"job_id": "a"})
        assert_canceled(kernel, "a", job)


def test_jobs_get_the_roots_that_were_granted_before_them_on_the_wire(tmp_path: Path) -> None:
    """Several requests in one write: a grant counts for what comes behind it, and for nothing before."""
    job, grant = tag("job_1", tmp_path, [tmp_path / "a.jpg"]), {"roots": [str(tmp_path)]}
    with KernelProcess() as kernel:
        kernel.initialize(roots=[])
        kernel.send_raw(line(71, "tag", job) + line(72, "roots/set", grant))
        assert kernel.answer(71)["error"]["data"]["kind"] == "path_outside_roots"
        assert kernel.answer(72)["result"]["roots"] == [str(tmp_path)]
        kernel.send_raw(line(73, "roots/set", {"roots": []}) + line(74, "roots/set", grant))
        kernel.send_raw(line(75, "tag", {**job, "job_id": "job_2"}))
        assert kernel.answer(75)["error"]["data"]["kind"] == "model_incomplete"
