"""Metrics in the text format of Prometheus."""

import httpx
import pytest

from orchestrator.api.metrics import BUCKETS, Metered, Metric, Requests, Sample, exposition
from orchestrator.studio import Studio
from tests.orchestrator.api.in_process import Inner, ask, scope_of

pytestmark = pytest.mark.anyio


async def test_answers_are_counted_where_no_operation_was_reached_too() -> None:
    requests = Requests()
    await ask(Metered(Inner(), requests), scope_of())
    requests.add("list_jobs", 200, 0.003)
    requests.add("list_jobs", 200, 99.0)
    text = exposition(requests.metrics())
    assert 'lorakeet_http_requests_total{operation="list_jobs",status="200"} 2\n' in text
    assert 'lorakeet_http_requests_total{operation="none",status="200"} 1\n' in text


async def test_a_histogram_adds_up() -> None:
    requests = Requests()
    for seconds in (0.005, 0.006, 99.0):
        requests.add("op", 200, seconds)
    text = exposition(requests.metrics())
    name = 'lorakeet_http_request_duration_seconds_bucket{operation="op",le="%s"} %d\n'
    assert name % ("0.005", 1) in text
    assert name % ("0.01", 2) in text
    assert name % (int(BUCKETS[-1]), 2) in text
    assert name % ("+Inf", 3) in text
    assert 'duration_seconds_count{operation="op"} 3\n' in text
    assert 'duration_seconds_sum{operation="op"} 99.011\n' in text


async def test_what_a_label_says_cannot_break_a_line() -> None:
    text = exposition([Metric("m", "gauge", "A metric.", [Sample(0.5, (("label", 'a"b\\c\nd'),))])])
    assert text == '# HELP m A metric.\n# TYPE m gauge\nm{label="a\\"b\\\\c\\nd"} 0.5\n'


async def test_the_studio_says_how_it_is(client: httpx.AsyncClient, studio: Studio) -> None:
    await client.get("/presets")
    text = (await client.get("http://studio/metrics")).text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert f'lorakeet_info{{version="0.1.0",boot_id="{studio.boot.boot_id}"}}' in values
    assert values["lorakeet_event_readers"] == "0"
    assert values['lorakeet_jobs{state="queued"}'] == "0"
    assert values["lorakeet_queue_paused"] == "0"
    assert values['lorakeet_lane_jobs{lane="cpu"}'] == "0"
    assert values['lorakeet_lane_state{lane="cpu",state="off"}'] == "1"
    assert values['lorakeet_kernel_restarts_total{lane="cpu"}'] == "0"
    assert float(values["process_resident_memory_bytes"]) > 1e6
    assert float(values["lorakeet_disk_free_bytes"]) > 0
