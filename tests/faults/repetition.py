"""How often a trial is made: a few times in every run, and many times in the fault suite."""

import pytest


def numbers(few: int, many: int) -> pytest.MarkDecorator:
    """A test of `number`: `few` of them always, `many` others with the marker `faults`."""
    extra = [pytest.param(number, marks=pytest.mark.faults) for number in range(few, few + many)]
    return pytest.mark.parametrize("number", [*range(few), *extra])
