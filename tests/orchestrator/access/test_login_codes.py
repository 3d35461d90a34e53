"""One-time codes."""

import pytest

from orchestrator.access.login_codes import GOOD_FOR_MS, MAX_CODES, LoginCodes
from tests.orchestrator.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def codes(clock: Clock) -> LoginCodes:
    return LoginCodes(clock)


def test_a_code_is_good_once(codes: LoginCodes) -> None:
    code, other = codes.make(), codes.make()
    assert [codes.use(code), codes.use(code), codes.use(other)] == [True, False, True]


def test_a_code_is_good_for_ten_minutes(clock: Clock, codes: LoginCodes) -> None:
    in_time, late = codes.make(), codes.make()
    clock.now_ms += GOOD_FOR_MS - 1
    assert codes.use(in_time)
    clock.now_ms += 1
    assert not codes.use(late)


@pytest.mark.parametrize("wrong", ["", "lk_", "lk_wrong"])
def test_what_is_no_code_is_not_good(wrong: str, codes: LoginCodes) -> None:
    codes.make()
    assert not codes.use(wrong)


def test_a_piece_of_a_code_is_not_good(codes: LoginCodes) -> None:
    code = codes.make()
    assert not codes.use(code[:-1])
    assert not codes.use(f"{code}x")
    assert codes.use(code)


def test_of_many_codes_the_newest_are_good(codes: LoginCodes) -> None:
    made = [codes.make() for _ in range(MAX_CODES + 5)]
    assert [codes.use(each) for each in made] == [False] * 5 + [True] * MAX_CODES


def test_no_code_is_good_after_all_were_cleared(codes: LoginCodes) -> None:
    code = codes.make()
    codes.clear()
    assert not codes.use(code)
