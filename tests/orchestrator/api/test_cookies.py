"""The cookie of a session, as browsers get it and send it."""

from http.cookies import SimpleCookie

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.cookies import clear_cookie, cookie_name, sent_secrets, set_cookie


@pytest.mark.parametrize("is_https", [False, True])
def test_no_script_and_no_other_site_gets_the_cookie(is_https: bool) -> None:
    parsed = SimpleCookie(set_cookie(8_000, "lk_secret", is_https=is_https))["lorakeet_8000"]
    assert parsed.value == "lk_secret"
    assert {key: value for key, value in parsed.items() if value} == {
        "path": "/",
        "httponly": True,
        "samesite": "Strict",
        "max-age": str(400 * 24 * 3_600),
    } | ({"secure": True} if is_https else {})


def test_a_session_that_ends_takes_its_cookie_along() -> None:
    assert clear_cookie(8_000, is_https=True) == (
        "lorakeet_8000=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict; Secure"
    )


def test_two_studios_on_one_machine_have_cookies_of_their_own() -> None:
    header = "lorakeet_8000=one; theme=dark; lorakeet_8001=two"
    assert sent_secrets([header], 8_000) == ["one"]
    assert sent_secrets([header], 8_001) == ["two"]
    assert sent_secrets([header], 800) == []


def test_what_the_studio_sets_it_reads() -> None:
    pair = set_cookie(8_000, "lk_secret", is_https=False).partition(";")[0]
    assert sent_secrets([pair], 8_000) == ["lk_secret"]


def test_a_flood_of_cookies_is_cut_short() -> None:
    assert len(sent_secrets(["; ".join(f"{cookie_name(1)}={number}" for number in range(1_000))], 1)) == 4


@settings(deadline=None)
@given(st.lists(st.text(max_size=60), max_size=4))
def test_no_text_is_too_odd_to_be_read(headers: list[str]) -> None:
    assert all(isinstance(each, str) for each in sent_secrets(headers, 8_000))
