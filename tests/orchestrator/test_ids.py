import re

from orchestrator.ids import new_id


def test_an_id_is_a_prefix_and_a_ulid() -> None:
    assert re.fullmatch(r"job_[0-7][0-9A-HJKMNP-TV-Z]{25}", new_id("job"))


def test_ids_are_never_the_same_and_sort_by_time() -> None:
    made = [new_id("job") for _ in range(2_000)]
    assert len(set(made)) == len(made)
    times = [each[4:14] for each in made]
    assert times == sorted(times)
