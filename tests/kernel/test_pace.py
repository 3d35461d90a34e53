"""How fast a phase goes on: by the time spent in it, whatever comes in between."""

import pytest

from kernel.pace import Pace


def pace(*reports: tuple[int, float]) -> Pace:
    """After a beginning and the reports that followed, each a step and a time."""
    made = Pace()
    made.begin(*reports[0])
    for step, now in reports:
        made.go(step, now)
    return made


def test_nothing_is_known_before_a_step_is_done() -> None:
    for one in (pace((3, 10.0)), pace((3, 10.0), (3, 12.0)), pace((3, 10.0), (4, 10.0))):
        assert (one.rate, one.eta_s(10)) == (None, None)


def test_steps_of_former_attempts_do_not_count() -> None:
    one = pace((100, 10.0), (104, 12.0))
    assert (one.rate, one.eta_s(110), one.eta_s(None)) == (2.0, 3.0, None)


def test_what_comes_in_between_takes_nothing_away() -> None:
    one = pace((0, 0.0), (4, 2.0))
    # Something else took a hundred seconds.
    one.begin(4, 102.0)
    one.go(4, 102.0)
    assert (one.rate, one.eta_s(10)) == (2.0, 3.0)
    one.go(6, 106.0)
    assert (one.rate, one.eta_s(10)) == (1.0, 4.0)


def test_a_step_that_was_done_elsewhere_does_not_count() -> None:
    one = pace((0, 0.0), (4, 2.0))
    one.begin(5, 50.0)
    assert (one.rate, one.eta_s(9)) == (2.0, 2.0)


@pytest.mark.parametrize("comes_again", [True, False])
def test_steps_that_begin_anew_are_counted_anew(comes_again: bool) -> None:
    one = pace((0, 0.0), (10, 1.0))
    if comes_again:
        one.begin(0, 5.0)
    one.go(0, 5.0)
    assert one.rate is None
    one.go(1, 7.0)
    assert one.rate == 0.5
