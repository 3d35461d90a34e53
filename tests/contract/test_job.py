"""What all job params share."""

import msgspec
import pytest

from contract.errors import InvalidParams
from contract.methods.job import JobPeek
from contract.validation import decode


@pytest.mark.parametrize("job_id", ["a", "job_01ARZ3NDEKTSV4RRFFQ69G5FAV", "-", "_" * 64])
def test_a_job_id_is_opaque(job_id: str) -> None:
    assert decode({"job_id": job_id}, JobPeek) == JobPeek(job_id=job_id, attempt=1)


@pytest.mark.parametrize("job_id", ["", "_" * 65, "a b", "a.b", "a/b", "ä", "\n", "a\nb"])
def test_a_job_id_is_of_few_characters(job_id: str) -> None:
    with pytest.raises(InvalidParams):
        decode({"job_id": job_id}, JobPeek)


def test_a_job_id_does_not_end_with_a_newline() -> None:
    with pytest.raises(InvalidParams):
        decode({"job_id": "a\n"}, JobPeek)


def test_a_peek_sees_no_more_than_it_must() -> None:
    raw = b'{"v": {"what": "ever"}, "inputs": 5, "job_id": "a", "attempt": 3, "settings": null}'
    assert msgspec.json.decode(raw, type=JobPeek) == JobPeek(job_id="a", attempt=3)
