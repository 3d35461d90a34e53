"""Jobs from the queue to their end, on kernels that are real processes and do as they are told."""

import os
import signal
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from contract.errors import StateConflict
from orchestrator.jobs.job import Job
from orchestrator.jobs.states import is_legal
from tests.orchestrator.jobs.deeds import KINDS, PATIENCE_S, SINK_FAILS, Bench, device, open_bench

pytestmark = pytest.mark.anyio


def _pid(bench: Bench, lane: str = "fake:0") -> int:
    pid = bench.studio.queue.lane(lane).view().kernel_pid
    assert pid is not None
    return pid


async def test_a_job_runs_on_a_kernel_and_keeps_what_came_of_it(bench: Bench) -> None:
    job = await bench.until(await bench.start())
    assert (job.state, job.reason, job.lane) == ("succeeded", "finished", "fake:0")
    assert job.outcome == {"items": [], "had_outcome": True}
    assert await bench.history(job) == [
        ("queued", "created"),
        ("starting", "assigned"),
        ("running", "kernel_started"),
        ("succeeded", "finished"),
    ]


async def test_one_kernel_does_job_after_job(bench: Bench) -> None:
    for _ in range(3):
        await bench.until(await bench.start())
    assert len({pid for _, _, pid in bench.journal()}) == 1


async def test_a_job_of_the_studio_runs_without_a_kernel(bench: Bench) -> None:
    job = await bench.until(await bench.start("study"))
    assert (job.state, job.lane, job.outcome) == ("succeeded", "studio", {"studied": True})
    (made,) = (await bench.studio.jobs.whole(job.id)).artifacts
    assert (made.role, made.bytes, await anyio.Path(made.path).read_bytes()) == ("text", 4, b"made")
    assert bench.journal() == []


async def test_a_bug_in_a_work_fails_its_job_and_nothing_else(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    job = await bench.until(await bench.start("study", "fail"))
    assert job.error is not None
    assert (job.state, job.error["data"]["kind"]) == ("failed", "internal_error")
    assert "the very words" not in str(job.error)
    assert "the very words" in caplog.text
    assert (await bench.until(await bench.start("study"))).state == "succeeded"


async def test_a_bug_in_a_sink_ends_the_job_in_its_kernel_too(bench: Bench) -> None:
    job = await bench.until(await bench.start(deed="report", times=SINK_FAILS))
    assert job.error is not None
    assert (job.state, job.error["data"]["kind"]) == ("failed", "internal_error")
    assert (await bench.until(await bench.start())).state == "succeeded"


@pytest.mark.parametrize(
    ("deed", "state", "reason", "code"),
    [
        ("fail", "failed", "error", "load_failed"),
        ("run out of memory", "failed", "out_of_memory", "out_of_memory"),
        ("fill the disk", "failed", "disk_full", "disk_full"),
        ("too long", "failed", "error", "kernel_fault"),
        ("wrong shape", "failed", "error", "kernel_fault"),
        ("half a line", "failed", "gave_up", "kernel_died"),
    ],
)
async def test_what_goes_wrong_has_a_name(
    bench: Bench, deed: str, state: str, reason: str, code: str
) -> None:
    job = await bench.until(await bench.start(deed=deed), "failed")
    assert job.error is not None
    assert (job.state, job.reason, job.error["data"]["kind"]) == (state, reason, code)
    assert (await bench.until(await bench.start())).state == "succeeded"


@pytest.mark.parametrize("deed", ["invalid JSON", "two answers", "flood"])
async def test_noise_does_not_hurt(bench: Bench, deed: str) -> None:
    assert (await bench.until(await bench.start(deed=deed))).state == "succeeded"
    assert (await bench.until(await bench.start())).state == "succeeded"


@pytest.mark.parametrize("deed", ["die", "stop", "fall silent"])
async def test_a_kernel_that_dies_or_is_stuck_gets_the_job_another_attempt(bench: Bench, deed: str) -> None:
    job = await bench.until(await bench.start(deed=deed), "succeeded")
    assert job.attempt == 2
    assert ("interrupted", "kernel_died") in await bench.history(job)
    assert ("queued", "retried") in await bench.history(job)
    assert "OVERLAP" not in str(bench.journal())
    assert bench.studio.queue.lane("fake:0").view().restarts == 1


async def test_a_job_is_not_tried_more_often_than_its_kind_allows(bench: Bench) -> None:
    job = await bench.until(await bench.start(deed="die", times=9), "failed")
    assert (job.reason, job.attempt) == ("gave_up", 3)
    once = await bench.until(await bench.start("once", "die", times=9), "failed")
    assert (once.reason, once.attempt) == ("kernel_died", 1)


async def test_what_may_pass_is_tried_again_on_a_new_kernel(bench: Bench) -> None:
    job = await bench.until(await bench.start(deed="lose the device"), "succeeded")
    assert job.attempt == 2
    assert ("interrupted", "error") in await bench.history(job)
    assert len({pid for _, _, pid in bench.journal()}) == 2


async def test_a_kernel_that_was_killed_for_want_of_memory_is_not_given_the_job_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([0])
    monkeypatch.setattr("orchestrator.jobs.conversation.oom_kills", lambda: next(counts))
    monkeypatch.setattr("orchestrator.hosting.restarts.oom_kills", lambda: 1)
    job = await bench.until(await bench.start(deed="die", times=9), "failed")
    assert (job.reason, job.attempt) == ("out_of_memory", 1)


async def test_a_kernel_killed_from_outside_is_followed_by_another(bench: Bench) -> None:
    job = await bench.start(deed="wait")
    await bench.until(job, "running")
    os.kill(_pid(bench), signal.SIGKILL)
    await bench.when(job, lambda now: now.attempt == 2 and now.state == "running")
    bench.go(job)
    assert (await bench.until(job)).state == "succeeded"
    assert "OVERLAP" not in str(bench.journal())


async def test_a_kernel_that_dies_at_its_start_leaves_jobs_waiting_and_its_lane_says_why(
    bench: Bench,
) -> None:
    (bench.folder / "broken").touch()
    job = await bench.start()
    lane = bench.studio.queue.lane("fake:0")
    await bench.when(job, lambda now: lane.view().state == "failed" and now.state == "queued")
    waiting = await bench.studio.jobs.get(job.id)
    assert (waiting.state, waiting.reason, waiting.attempt) == ("queued", "kernel_unavailable", 1)
    problem = lane.view().problem
    assert problem is not None and problem.code == "kernel_unavailable"
    (bench.folder / "broken").unlink()
    bench.studio.queue.restart("fake:0")
    assert (await bench.until(job)).state == "succeeded"


async def test_other_settings_wake_a_lane_that_has_given_up(bench: Bench) -> None:
    settings = bench.studio.settings
    command = settings.current.kernel.command
    await settings.change({"kernel": {"command": ["/does/not/exist"]}}, settings.etag)
    job = await bench.start()
    lane = bench.studio.queue.lane("fake:0")
    await bench.when(job, lambda now: lane.view().state == "failed" and now.state == "queued")
    await settings.change({"kernel": {"command": command}}, settings.etag)
    assert (await bench.until(job)).state == "succeeded"


async def test_an_idle_kernel_is_ended_and_the_next_job_starts_another(bench: Bench) -> None:
    settings = bench.studio.settings
    await settings.change({"kernel": {"idle_s": 0.01}}, settings.etag)
    await bench.until(await bench.start())
    lane = bench.studio.queue.lane("fake:0")
    with anyio.fail_after(PATIENCE_S):
        while lane.view().kernel_pid is not None:
            await anyio.lowlevel.checkpoint()
    assert lane.view().state == "off"
    await bench.until(await bench.start())
    assert len({pid for _, _, pid in bench.journal()}) == 2


async def test_a_job_that_waits_is_canceled_at_once(bench: Bench) -> None:
    running = await bench.start(deed="wait")
    await bench.until(running, "running")
    waiting = await bench.start()
    assert (await bench.studio.jobs.cancel(waiting.id)).state == "canceled"
    assert (await bench.studio.jobs.cancel(waiting.id)).state == "canceled"


async def test_a_running_job_is_canceled_and_what_it_had_is_kept(bench: Bench) -> None:
    job = await bench.start(deed="report", times=2)
    await bench.when(job, lambda now: now.progress is not None or now.state == "running")
    await _reported(bench, job.id)
    assert (await bench.studio.jobs.cancel(job.id)).state == "canceling"
    ended = await bench.until(job)
    assert (ended.state, ended.reason, ended.error) == ("canceled", "canceled", None)
    assert ended.outcome == {"items": [{"index": 0}, {"index": 1}], "had_outcome": False}
    assert (await bench.until(await bench.start())).state == "succeeded"


async def test_a_job_of_the_studio_is_canceled(bench: Bench) -> None:
    job = await bench.start("study", "wait")
    await bench.until(job, "running")
    await bench.studio.jobs.cancel(job.id)
    assert (await bench.until(job)).state == "canceled"


async def test_a_kernel_that_does_not_end_a_job_is_ended_itself(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.jobs.conversation.CANCEL_S", 0.1)
    job = await bench.start(deed="be stubborn")
    await bench.until(job, "running")
    await bench.studio.jobs.cancel(job.id)
    assert (await bench.until(job)).state == "canceled"
    assert (await bench.until(await bench.start())).state == "succeeded"


async def test_a_job_that_is_done_before_it_can_be_canceled_has_succeeded(bench: Bench) -> None:
    job = await bench.start(deed="be stubborn")
    await bench.until(job, "running")
    for _ in range(2):
        assert (await bench.studio.jobs.cancel(job.id)).state == "canceling"
    bench.go(job)
    assert (await bench.until(job)).state == "succeeded"
    assert (await bench.history(job))[-2:] == [("canceling", "cancel_requested"), ("succeeded", "finished")]


async def test_a_job_is_canceled_while_its_kernel_starts(bench: Bench) -> None:
    job = await bench.start()
    await bench.until(job, "starting")
    await bench.studio.jobs.cancel(job.id)
    assert (await bench.until(job)).state == "canceled"
    assert bench.journal() == []
    assert (await bench.until(await bench.start())).state == "succeeded"


async def test_a_paused_job_goes_on_with_its_next_attempt(bench: Bench) -> None:
    job = await bench.start(deed="wait")
    await bench.until(job, "running")
    await bench.studio.jobs.pause(job.id)
    paused = await bench.until(job, "paused")
    assert (paused.reason, paused.attempt, paused.error) == ("paused", 1, None)
    assert bench.studio.queue.lane("fake:0").view().state == "ready"
    bench.go(job)
    await bench.studio.jobs.resume(job.id)
    assert (await bench.until(job)).attempt == 2


async def test_only_what_can_go_on_can_be_paused(bench: Bench) -> None:
    job = await bench.start("resize", "wait")
    with pytest.raises(StateConflict, match="cannot be paused"):
        await bench.studio.jobs.pause(job.id)
    with pytest.raises(StateConflict):
        await bench.studio.jobs.resume(job.id)


async def test_a_failed_job_gets_another_attempt_when_somebody_wants_it(bench: Bench) -> None:
    job = await bench.until(await bench.start("once", "die"))
    again = await bench.studio.jobs.retry(job.id)
    assert (again.state, again.attempt, again.error is not None) == ("queued", 2, True)
    done = await bench.until(job, "succeeded")
    assert (done.attempt, done.error) == (2, None)
    with pytest.raises(StateConflict):
        await bench.studio.jobs.retry(job.id)


async def test_what_ran_out_of_memory_is_never_tried_again_unchanged(bench: Bench) -> None:
    job = await bench.until(await bench.start(deed="run out of memory"))
    jobs = bench.studio.jobs
    with pytest.raises(StateConflict, match="out of memory") as refused:
        await jobs.retry(job.id)
    assert refused.value.hint is not None and "other settings" in refused.value.hint
    with pytest.raises(StateConflict, match="out of memory"):
        await jobs.rerun(job.id, "job_00000000000000000000000001", {})
    other = await jobs.rerun(job.id, "job_00000000000000000000000002", {"deed": "finish"})
    assert (await bench.until(other)).state == "succeeded"
    assert other.parent_id == job.id
    await bench.studio.queue.set_lane("fake:0", None, False)
    assert (await jobs.retry(job.id)).state == "queued"


async def test_two_jobs_with_one_output_get_two(bench: Bench) -> None:
    (bench.studio.home / "outputs").mkdir(exist_ok=True)
    (bench.studio.home / "outputs" / "Mine-3.safetensors").touch()
    await bench.studio.queue.pause(True)
    names = [(await bench.start(output="mine")).output for _ in range(4)]
    assert names == ["mine", "mine-2", "mine-4", "mine-5"]


async def test_every_change_that_happened_is_in_the_table_of_changes(bench: Bench) -> None:
    for deed in ("finish", "die", "fail", "run out of memory", "lose the device"):
        job = await bench.until(await bench.start(deed=deed), "succeeded", "failed")
        changes = (await bench.studio.jobs.whole(job.id)).transitions
        assert all(is_legal(each.before, each.after, each.reason) for each in changes)
        assert [each.number for each in changes] == list(range(1, len(changes) + 1))


async def test_what_a_job_says_is_kept_and_told(bench: Bench) -> None:
    job = await bench.start(deed="report", times=3)
    await _reported(bench, job.id)
    bench.go(job)
    ended = await bench.until(job)
    assert ended.progress is not None
    assert (ended.progress["step"], ended.progress["total"], ended.progress["eta_s"]) == (3, 3, 0.0)
    series = await bench.studio.jobs.metrics(job.id, None, 0, 100)
    assert series == {"loss": [(1, 1.0), (2, 0.5), (3, 1 / 3)]}
    lines = await bench.studio.jobs.log(job.id, 100, "debug")
    messages = [line.message for line in lines]
    assert [each for each in messages if each.startswith("step")] == ["step 1", "step 2", "step 3"]
    assert "a word beside" in messages
    assert any("/etc/hostname" in each for each in messages)
    (made,) = (await bench.studio.jobs.whole(job.id)).artifacts
    assert await anyio.Path(made.path).read_bytes() == b"made by a job"


async def test_a_file_that_is_made_again_is_the_same_artifact(bench: Bench) -> None:
    job = await bench.start(deed="report")
    await _reported(bench, job.id)
    await bench.studio.jobs.cancel(job.id)
    await bench.until(job)
    bench.go(job)
    await bench.studio.jobs.retry(job.id)
    assert (await bench.until(job, "succeeded")).attempt == 2
    (made,) = (await bench.studio.jobs.whole(job.id)).artifacts
    assert made.number == 1


async def test_a_running_job_takes_the_orders_that_its_kind_knows(bench: Bench) -> None:
    jobs = bench.studio.jobs
    job = await bench.start("obedient", "obey")
    await bench.until(job, "running")
    for number in range(1, 5):
        await _ordered(bench, job, "save_now")
        with anyio.fail_after(PATIENCE_S):
            while number not in await _checkpoints(bench, job):
                await anyio.lowlevel.checkpoint()
    # Older ones have given way, and no number is given twice.
    assert set(await _checkpoints(bench, job)) <= {3, 4}
    with pytest.raises(StateConflict, match="no order `sample_now`"):
        await jobs.order(job.id, "sample_now")
    await _ordered(bench, job, "stop_after_epoch")
    await bench.until(job, "succeeded")
    assert await _checkpoints(bench, job) == {4: {"step": 4}}
    with pytest.raises(StateConflict, match="is succeeded"):
        await jobs.order(job.id, "save_now")
    other = await bench.start(deed="wait")
    with pytest.raises(StateConflict, match="`run` takes no order"):
        await jobs.order(other.id, "save_now")


async def _ordered(bench: Bench, job: Job, action: str) -> None:
    """Until the kernel has the job, no order reaches it."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            try:
                return await bench.studio.jobs.order(job.id, action)
            except StateConflict:
                await anyio.lowlevel.checkpoint()


async def _checkpoints(bench: Bench, job: Job) -> dict[int, dict[str, int]]:
    """The labels of those that are listed, by number."""
    return {each.number: each.labels for each in (await bench.studio.jobs.whole(job.id)).artifacts}


async def test_what_a_kind_measures_is_kept_apart_from_its_progress(bench: Bench) -> None:
    job = await bench.start("measure", "report", times=3)
    await _reported(bench, job.id)
    bench.go(job)
    ended = await bench.until(job)
    assert ended.progress is not None and ended.progress["metrics"] == {"loss": 1 / 3}
    series = await bench.studio.jobs.metrics(job.id, None, 0, 100)
    assert series == {"loss": [(1, 0.0), (2, 1.0), (3, 2.0)]}


async def test_a_job_that_is_being_canceled_can_be_hurried(bench: Bench) -> None:
    job = await bench.start(deed="save for ever")
    await bench.until(job, "running")
    pid = _pid(bench)
    assert (await bench.studio.jobs.cancel(job.id)).state == "canceling"
    assert (await bench.studio.jobs.cancel(job.id, now=True)).state == "canceling"
    await bench.until(job, "canceled")
    at_once = await bench.start(deed="save for ever")
    await bench.until(at_once, "running")
    await bench.studio.jobs.cancel(at_once.id, now=True)
    await bench.until(at_once, "canceled")
    assert _pid(bench) == pid


async def test_a_kind_may_take_longer_to_end_when_the_studio_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = KINDS | {"run": msgspec.structs.replace(KINDS["run"], stop_s=0.1)}
    monkeypatch.setattr("tests.orchestrator.jobs.deeds.KINDS", kinds)
    async with open_bench(tmp_path, [device(0), device(1)]) as bench:
        stubborn = await bench.start("run", "be stubborn")
        late = await bench.start("obedient", "leave late", times=5)
        await bench.until(stubborn, "running")
        await bench.until(late, "running")
    async with open_bench(tmp_path, run=False) as bench:
        assert await _ended_by(bench, stubborn) == "kernel_died"
        assert await _ended_by(bench, late) == "canceled"


async def _ended_by(bench: Bench, job: Job) -> str:
    """The error of the attempt that the stop has interrupted."""
    whole = await bench.studio.jobs.whole(job.id)
    (stopped,) = [each for each in whole.transitions if each.reason == "studio_stopped"]
    assert stopped.error is not None
    return str(stopped.error["data"]["kind"])


async def _reported(bench: Bench, job_id: str) -> None:
    """Until the kernel has said everything that it says before it waits."""
    job = await bench.studio.jobs.get(job_id)
    await bench.until(job, "running")
    with anyio.fail_after(PATIENCE_S):
        while True:
            lines: Any = await bench.studio.jobs.log(job_id, 100, "warning")
            if any("/etc/hostname" in line.message for line in lines):
                return


async def test_a_stop_of_the_studio_interrupts_jobs_and_the_next_boot_goes_on(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        job = await bench.start(deed="wait")
        study = await bench.start("study", "wait")
        await bench.until(job, "running")
        await bench.until(study, "running")
    async with open_bench(tmp_path, run=False) as bench:
        history = await bench.history(job)
        assert history[-2:] == [("interrupted", "studio_stopped"), ("queued", "requeued")]
        assert (await bench.history(study))[-1] == ("queued", "requeued")
    async with open_bench(tmp_path) as bench:
        bench.go(job)
        assert (await bench.until(job)).attempt == 2


async def test_a_studio_is_not_held_up_by_a_job_that_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {name: msgspec.structs.replace(kind, stop_s=0.1) for name, kind in KINDS.items()}
    monkeypatch.setattr("tests.orchestrator.jobs.deeds.KINDS", kinds)
    async with open_bench(tmp_path) as bench:
        job = await bench.start(deed="be stubborn")
        await bench.until(job, "running")
    async with open_bench(tmp_path, run=False) as bench:
        assert ("interrupted", "studio_stopped") in await bench.history(job)
