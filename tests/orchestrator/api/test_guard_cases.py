"""The table of the guard's cases: as the docs show it, and whole."""

from contract.errors import AccessError, leaves
from orchestrator.api.outgoing import _FIXED, _POLICY
from orchestrator.api.problems import status_of
from tests.orchestrator.api.guard_cases import PAGE, cases, page


def test_the_docs_show_the_table_as_the_data_has_it() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.id for case in cases()]
    assert sorted(set(names)) == sorted(names)
    assert len(names) >= 33


def test_every_way_to_be_refused_has_a_case_and_the_status_that_is_sent_for_it() -> None:
    statuses = {leaf.kind: status_of(leaf) for leaf in leaves(AccessError)}
    refused = {case.kind: case.status for case in cases() if case.kind}
    assert refused == {kind: status for kind, status in statuses.items() if kind != "too_many_attempts"}


def test_every_case_says_why_in_a_sentence() -> None:
    assert [case.id for case in cases() if not (case.why[0].isupper() and case.why.endswith("."))] == []


def test_a_case_goes_through_a_socket_as_it_stands() -> None:
    (case,) = (each for each in cases() if each.id == "Host: doubled, one of another")
    assert case.bytes_for("/api/v1", "127.0.0.1", 8_000, "lk_token", "lk_cookie") == (
        b"GET /api/v1 HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nHost: evil.example\r\n"
        b"Authorization: Bearer lk_token\r\nConnection: close\r\n\r\n"
    )
    (case,) = (each for each in cases() if each.name == "token in the address")
    assert case.bytes_for("/x", "127.0.0.1", 1, "lk_t", "lk_c").startswith(
        b"GET /x?token=lk_t&access_token=lk_t HTTP/1.1\r\n"
    )


def test_the_page_has_every_header_that_answers_carry() -> None:
    said = " ".join(PAGE.read_text(encoding="utf-8").split()).lower()
    for name, value in (_POLICY, *_FIXED):
        assert f"{name.decode()}: {value.decode()}".lower() in said
