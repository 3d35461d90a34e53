"""Wrong secrets are counted by who sent them."""

import pytest

from orchestrator.access.attempts import LIMIT, MAX_CLIENTS, WINDOW_MS, Attempts
from tests.orchestrator.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> Attempts:
    return Attempts(clock)


def test_the_eleventh_in_a_minute_has_to_wait(clock: Clock, attempts: Attempts) -> None:
    for _ in range(LIMIT):
        assert attempts.add("192.0.2.1") == 0
        clock.now_ms += 1_000
    assert attempts.add("192.0.2.1") == WINDOW_MS - LIMIT * 1_000


def test_the_wait_ends_when_it_was_said_to_end_however_often_it_is_tried(
    clock: Clock, attempts: Attempts
) -> None:
    for _ in range(LIMIT):
        attempts.add("192.0.2.1")
    wait_ms = attempts.add("192.0.2.1")
    for _ in range(100):
        attempts.add("192.0.2.1")
    clock.now_ms += wait_ms - 1
    assert attempts.add("192.0.2.1") == 1
    clock.now_ms += 1
    assert attempts.add("192.0.2.1") == 0


def test_each_client_has_a_count_of_its_own(attempts: Attempts) -> None:
    for _ in range(LIMIT + 1):
        attempts.add("192.0.2.1")
    assert attempts.add("192.0.2.1") > 0
    assert attempts.add("192.0.2.2") == 0
    assert attempts.add("") == 0


def test_the_addresses_of_one_network_of_ipv6_are_one_client(attempts: Attempts) -> None:
    for number in range(LIMIT):
        assert attempts.add(f"2001:db8::{number + 1:x}") == 0
    assert attempts.add("2001:db8::ffff:1") > 0
    assert attempts.add("2001:db8:0:1::1") == 0
    assert attempts.add("fe80::1%eth0") == 0


def test_a_flood_of_clients_does_not_fill_the_memory(attempts: Attempts) -> None:
    for number in range(MAX_CLIENTS * 3):
        attempts.add(f"client {number}")
    assert len(attempts._times) == MAX_CLIENTS


def test_the_client_that_was_quiet_longest_is_forgotten_first(attempts: Attempts) -> None:
    for _ in range(LIMIT):
        attempts.add("busy")
    for number in range(MAX_CLIENTS * 2):
        attempts.add(f"client {number}")
        assert attempts.add("busy") > 0
