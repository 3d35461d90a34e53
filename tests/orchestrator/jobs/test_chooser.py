"""Who runs where: fixed cases, and laws that hold for whatever comes."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.jobs.chooser import CPU_RUN, HOLD_S, LaneKind, LaneNow, LaneSpec, Waiting, choose


def _device(number: int, weight: float = 1.0, **now: float | int | bool) -> LaneNow:
    enabled = bool(now.pop("enabled", True))
    spec = LaneSpec(id=f"gpu:{number}", kind="device", weight=weight, enabled=enabled)
    return LaneNow(spec=spec, **now)  # type: ignore[arg-type]


def _light(busy: int = 0) -> LaneNow:
    return LaneNow(spec=LaneSpec(id="cpu", kind="cpu"), busy=busy)


def _studio(slots: int = 2, busy: int = 0) -> LaneNow:
    return LaneNow(spec=LaneSpec(id="studio", kind="studio", slots=slots), busy=busy)


def _runs(count: int) -> list[Waiting]:
    return [Waiting(f"run{number}", "device") for number in range(count)]


def _chosen(waiting: Sequence[Waiting], lanes: Sequence[LaneNow], now: float = 100.0) -> dict[str, str]:
    return {choice.job_id: choice.lane_id for choice in choose(waiting, lanes, now).choices}


def test_each_kind_runs_where_it_belongs() -> None:
    waiting = [Waiting("a", "device"), Waiting("b", "cpu"), Waiting("c", "studio"), Waiting("d", "studio")]
    chosen = _chosen(waiting, [_device(0), _light(), _studio()])
    assert chosen == {"a": "gpu:0", "b": "cpu", "c": "studio", "d": "studio"}


def test_light_work_does_not_wait_behind_a_long_run() -> None:
    waiting = [*_runs(3), Waiting("resize", "cpu"), Waiting("tag", "cpu", True)]
    assert _chosen(waiting, [_device(0, busy=1), _light()]) == {"resize": "cpu"}
    assert _chosen(waiting[4:], [_device(0, busy=1), _light()]) == {"tag": "cpu"}


def test_what_prefers_a_device_takes_one_that_is_free() -> None:
    assert _chosen([Waiting("tag", "cpu", True)], [_device(0), _light()]) == {"tag": "gpu:0"}


def test_the_lane_for_long_runs_without_a_gpu_is_kept_for_them() -> None:
    runs = LaneNow(spec=LaneSpec(id=CPU_RUN, kind="device"))
    waiting = [Waiting("tag", "cpu", True), Waiting("run", "device")]
    assert _chosen(waiting, [runs, _light()]) == {"tag": "cpu", "run": CPU_RUN}


def test_a_lane_that_is_disabled_or_broken_gets_nothing() -> None:
    assert _chosen(_runs(2), [_device(0, enabled=False), _device(1, available=False)]) == {}


def test_equal_lanes_take_whatever_comes() -> None:
    lanes = [_device(0, served=9), _device(1, served=1, busy=1, began=99)]
    assert _chosen(_runs(1), lanes) == {"run0": "gpu:0"}


def test_a_lane_ahead_of_its_share_leaves_a_job_to_a_busy_one_but_not_for_long() -> None:
    lanes = [_device(0, 1), _device(1, 3, served=1, busy=1, began=100)]
    held = choose(_runs(1), lanes, 101.0)
    assert held.choices == [] and held.look_again == 100 + HOLD_S
    assert _chosen(_runs(1), lanes, 100 + HOLD_S) == {"run0": "gpu:0"}


def test_a_share_is_not_kept_for_a_lane_that_cannot_run() -> None:
    lanes = [_device(0, 1), _device(1, 3, busy=1, began=100, available=False)]
    assert _chosen(_runs(1), lanes, 101.0) == {"run0": "gpu:0"}


def _simulated(lanes: list[LaneNow], count: int, seconds: float) -> Counter[str]:
    """How many jobs each lane gets, if each takes so long."""
    waiting, now, served = _runs(count), 0.0, Counter[str]()
    ends: dict[str, float] = {}
    while waiting or ends:
        chosen = choose(waiting, lanes, now)
        taken = {choice.job_id for choice in chosen.choices}
        waiting = [job for job in waiting if job.id not in taken]
        for choice in chosen.choices:
            lane = next(lane for lane in lanes if lane.spec.id == choice.lane_id)
            lane.busy, lane.served, lane.began = 1, lane.served + 1, now
            ends[choice.lane_id] = now + seconds
            served[choice.lane_id] += 1
        looks = [*ends.values(), *([chosen.look_again] if chosen.look_again is not None else [])]
        assert looks, "jobs wait, and nobody looks again"
        now = max(now, min(looks))
        for lane in lanes:
            if ends.get(lane.spec.id, now + 1) <= now:
                lane.busy = 0
                del ends[lane.spec.id]
    return served


@pytest.mark.parametrize("weights", [(1, 3), (0.1, 0.3), (1, 2, 5), (3, 1), (1, 1, 2)])
def test_equal_jobs_come_to_the_very_shares(weights: tuple[float, ...]) -> None:
    lanes = [_device(number, weight) for number, weight in enumerate(weights)]
    unit = min(weights)
    rounds = 10
    served = _simulated(lanes, round(sum(weights) / unit) * rounds, 5.0)
    assert [served[f"gpu:{number}"] for number in range(len(weights))] == [
        round(weight / unit) * rounds for weight in weights
    ]


def test_long_jobs_use_every_lane() -> None:
    served = _simulated([_device(0, 1), _device(1, 3)], 8, 10 * HOLD_S)
    assert min(served.values()) >= 3


_KINDS: st.SearchStrategy[LaneKind] = st.sampled_from(["device", "cpu", "studio"])
_WAITING = st.lists(st.tuples(_KINDS, st.booleans()), max_size=30).map(
    lambda jobs: [Waiting(f"job{number}", *job) for number, job in enumerate(jobs)]
)


@st.composite
def _lanes(draw: st.DrawFn) -> list[LaneNow]:
    lanes = []
    for number in range(draw(st.integers(0, 4))):
        busy = draw(st.integers(0, 1))
        lanes.append(
            _device(
                number,
                draw(st.sampled_from([0.5, 1.0, 3.0])),
                enabled=draw(st.booleans()),
                available=draw(st.booleans()),
                served=draw(st.integers(0, 20)),
                began=draw(st.floats(0, 100)),
                busy=busy,
            )
        )
    slots = draw(st.integers(1, 4))
    return [*lanes, _light(draw(st.integers(0, 1))), _studio(slots, draw(st.integers(0, slots)))]


@settings(deadline=None)
@given(_WAITING, _lanes())
def test_no_slot_is_given_twice_and_none_that_is_closed(waiting: list[Waiting], lanes: list[LaneNow]) -> None:
    choices = choose(waiting, lanes, 100.0).choices
    assert len({choice.job_id for choice in choices}) == len(choices)
    given_to = Counter(choice.lane_id for choice in choices)
    for lane in lanes:
        assert lane.busy + given_to[lane.spec.id] <= lane.spec.slots
        if not (lane.spec.enabled and lane.available):
            assert given_to[lane.spec.id] == 0


@settings(deadline=None)
@given(_WAITING, _lanes())
def test_no_job_overtakes_one_of_its_like(waiting: list[Waiting], lanes: list[LaneNow]) -> None:
    started = {choice.job_id for choice in choose(waiting, lanes, 100.0).choices}
    for alike in {(job.lane, job.prefers_device) for job in waiting}:
        row = [job.id in started for job in waiting if (job.lane, job.prefers_device) == alike]
        assert row == sorted(row, reverse=True)


@settings(deadline=None)
@given(_WAITING, _lanes())
def test_a_free_slot_is_used_now_or_somebody_looks_again(
    waiting: list[Waiting], lanes: list[LaneNow]
) -> None:
    chosen = choose(waiting, lanes, 100.0)
    started = {choice.job_id for choice in chosen.choices}
    given_to = Counter(choice.lane_id for choice in chosen.choices)
    free = [
        lane
        for lane in lanes
        if lane.spec.enabled and lane.available and lane.busy + given_to[lane.spec.id] < lane.spec.slots
    ]
    for job in waiting:
        if job.id not in started and any(lane.spec.kind == job.lane for lane in free):
            assert job.lane == "device" and chosen.look_again is not None
            assert 100.0 < chosen.look_again <= 100.0 + HOLD_S


@settings(deadline=None)
@given(st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0]), min_size=2, max_size=4), st.integers(1, 60))
def test_nobody_is_further_from_its_share_than_a_job(weights: list[float], count: int) -> None:
    served = _simulated([_device(number, weight) for number, weight in enumerate(weights)], count, 1.0)
    assert sum(served.values()) == count
    if len(set(weights)) > 1:
        for number, weight in enumerate(weights):
            for other, its in enumerate(weights):
                ahead, behind = served[f"gpu:{number}"], served[f"gpu:{other}"]
                assert ahead / weight <= (behind + 1) / its + 1e-6
