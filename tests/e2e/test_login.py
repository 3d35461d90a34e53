"""Getting in with a real browser, as its user does, and pages that the browser shows without a complaint."""

import pytest

from tests.e2e.owned import Owned
from tests.e2e.tabs import Page, Profile


def _new_link(studio: Owned) -> str:
    return f"{studio.origin}/login?code={studio.new_code()}"


def _send_form(page: Page, token: str) -> None:
    page.evaluate(f"document.querySelector('input').value = '{token}'")
    page.submit("document.querySelector('form').requestSubmit()")


def test_the_link_opens_the_studio_and_leaves_a_cookie_that_no_script_and_no_other_site_gets(
    studio: Owned, profile: Profile
) -> None:
    page = profile.tab()
    assert page.go(_new_link(studio)) is None
    assert page.addresses() == [f"{studio.origin}/"]
    (cookie,) = profile.cookies()
    assert cookie["name"] == f"lorakeet_{studio.port}"
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["domain"], cookie["path"]) == (
        True,
        "Strict",
        "127.0.0.1",
        "/",
    )
    assert page.evaluate("document.cookie") == ""
    assert page.evaluate("fetch('/api/v1/session').then(reply => reply.json())")["kind"] == "session"


def test_a_link_that_was_used_says_so_and_logs_nobody_in(studio: Owned, profile: Profile) -> None:
    link = _new_link(studio)
    assert profile.tab().go(link) is None
    with_link = profile.tab()
    with_link.call("Network.clearBrowserCookies")
    with_link.go(link)
    assert "was used already" in with_link.evaluate("document.body.innerText")
    assert profile.cookies() == []


@pytest.mark.parametrize("path", ["/", "/login", "/login?code=no-such-code"])
def test_a_browser_logs_in_by_the_form_wherever_it_stands(path: str, studio: Owned, profile: Profile) -> None:
    page = profile.tab()
    page.go(f"{studio.origin}{path}")
    _send_form(page, studio.token)
    assert page.addresses() == [f"{studio.origin}/"]
    assert [cookie["name"] for cookie in profile.cookies()] == [f"lorakeet_{studio.port}"]


def test_a_wrong_token_in_the_form_is_told_and_logs_nobody_in(studio: Owned, profile: Profile) -> None:
    page = profile.tab()
    page.go(f"{studio.origin}/login")
    _send_form(page, "lk_wrong")
    assert "not valid" in page.evaluate("document.body.innerText")
    assert profile.cookies() == []


@pytest.mark.parametrize("path", ["/", "/login", "/api/v1/docs"])
def test_a_page_is_shown_without_a_complaint_of_the_browser(
    path: str, studio: Owned, profile: Profile
) -> None:
    page = profile.tab()
    page.go(_new_link(studio))
    page.go(f"{studio.origin}{path}")
    assert page.evaluate("document.title").startswith(("Lorakeet", "Log in"))
    assert page.evaluate("document.body.innerText.length") > 100
    assert page.complaints() == []


def test_the_policy_of_a_page_is_complained_of_where_it_is_broken(studio: Owned, profile: Profile) -> None:
    """What the test above would look like, if it failed."""
    page = profile.tab()
    page.go(f"{studio.origin}/login")
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'a = 1'}))")
    assert len(page.complaints()) == 1


def test_logging_out_ends_the_session_and_takes_the_cookie_away(studio: Owned, profile: Profile) -> None:
    page = profile.tab()
    page.go(_new_link(studio))
    status = "fetch('/api/v1/session', {method: 'DELETE'}).then(reply => reply.status)"
    assert page.evaluate(status) == 204
    assert profile.cookies() == []
    assert page.evaluate("fetch('/api/v1/session').then(reply => reply.status)") == 401
