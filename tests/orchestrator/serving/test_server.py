"""The studio as a server: how it starts, who gets in, and how it stops."""

import http.client
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from orchestrator.cli.exits import Exit
from orchestrator.serving.http_protocol import MAX_HEAD_BYTES
from tests.orchestrator.cli.command import LORAKEET, TIMEOUT_S, lorakeet
from tests.orchestrator.own_studio import Serving
from tests.studio_process import until

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and modes")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def log_in(studio: Serving, link: str) -> dict[str, str]:
    """Open a login link as a browser does; the headers of the answer."""
    answer = studio.ask("GET", link.removeprefix(studio.ready["url"]))
    assert (answer.status, answer.headers["location"]) == (303, "/")
    return answer.headers


@contextmanager
def following(studio: Serving) -> Iterator[http.client.HTTPResponse]:
    """A stream of events, with its first bytes read."""
    headers = {"Authorization": f"Bearer {studio.token}"}
    with closing(http.client.HTTPConnection("127.0.0.1", studio.port, timeout=TIMEOUT_S)) as connection:
        connection.request("GET", "/api/v1/events", headers=headers)
        with connection.getresponse() as answer:
            assert answer.status == 200
            assert answer.readline() == b"retry: 1000\n"
            yield answer


def test_the_first_start_shows_a_token_that_is_good_and_the_second_does_not(home: Path) -> None:
    with Serving(home) as studio:
        token = studio.ready["token"]
        assert studio.ask("GET", "/api/v1/session", token=token).json["kind"] == "token"
    with Serving(home) as studio:
        assert studio.ready["token"] is None
        assert studio.ask("GET", "/api/v1/session", token=token).status == 200


def test_a_login_link_lets_one_browser_in_once(home: Path) -> None:
    with Serving(home) as studio:
        cookie = log_in(studio, studio.ready["link"])["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
        answer = studio.ask("GET", "/api/v1/session", headers={"Cookie": cookie.partition(";")[0]})
        assert answer.json["kind"] == "session"
        again = studio.ask("GET", studio.ready["link"].removeprefix(studio.ready["url"]))
        assert (again.status, "set-cookie" in again.headers) == (401, False)
        assert "used already" in again.text and "lorakeet link" in again.text
        log_in(studio, studio.ask("POST", "/api/v1/session/links", token=studio.token).json["url"])


def test_a_used_link_is_no_error_in_the_browser_that_used_it(home: Path) -> None:
    with Serving(home) as studio:
        path = studio.ready["link"].removeprefix(studio.ready["url"])
        cookie = log_in(studio, studio.ready["link"])["set-cookie"].partition(";")[0]
        assert studio.ask("GET", path, headers={"Cookie": cookie}).status == 303


def test_a_link_that_is_followed_from_another_site_goes_on_by_a_page_of_ours(home: Path) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    with Serving(home) as studio:
        path = studio.ready["link"].removeprefix(studio.ready["url"])
        answer = studio.ask("GET", path, headers=headers)
        assert (answer.status, answer.headers["refresh"]) == (200, "0; url=/")
        assert "set-cookie" in answer.headers


def test_looking_at_a_link_does_not_use_it_up(home: Path) -> None:
    with Serving(home) as studio:
        assert studio.ask("HEAD", studio.ready["link"].removeprefix(studio.ready["url"])).status == 200
        log_in(studio, studio.ready["link"])


def test_the_front_page_says_how_to_get_in_and_tells_nothing_else(home: Path) -> None:
    with Serving(home) as studio:
        page = studio.ask("GET", "/")
        assert page.status == 200
        assert "lorakeet link" in page.text and "/api/v1/docs" in page.text
        assert "<script" not in page.text and "<style" not in page.text
        assert studio.ready["boot_id"] not in page.text
        assert studio.ask("GET", "/api/v1/docs").status == 401


def test_whether_it_is_ready_is_said_to_all_and_why_not_to_those_who_may_know(home: Path) -> None:
    home.mkdir()
    (home / "settings.toml").write_text(
        "[limits]\nmin_free_bytes = 1_000_000_000_000_000\n", encoding="utf-8"
    )
    with Serving(home) as studio:
        assert studio.ask("GET", "/healthz").json == {"status": "ok"}
        public = studio.ask("GET", "/readyz")
        assert (public.status, public.json["detail"]) == (503, "The studio is not ready.")
        assert "bytes left" in studio.ask("GET", "/readyz", token=studio.token).json["detail"]
        wrong = studio.ask("GET", "/readyz", token="lk_wrong")
        assert (wrong.status, wrong.json["detail"]) == (503, "The studio is not ready.")
        (home / "settings.toml").unlink()
    with Serving(home, env={"LORAKEET_KERNEL": sys.executable}) as studio:
        assert studio.ask("GET", "/readyz").json == {"status": "ok"}


def test_metrics_count_answers_by_operation_and_need_a_token(home: Path) -> None:
    with Serving(home) as studio:
        assert studio.ask("GET", "/metrics").status == 401
        studio.get("/api/v1/presets")
        metrics = studio.ask("GET", "/metrics", token=studio.token)
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'lorakeet_http_requests_total{operation="list_presets",status="200"} 1\n' in metrics.text
        assert re.search(r'duration_seconds_bucket\{operation="list_presets",le="\+Inf"\} 1\n', metrics.text)
        assert 'operation="none",status="401"} 1\n' in metrics.text
        for line in metrics.text.splitlines():
            assert re.fullmatch(r"# (HELP|TYPE) .+|[a-z_]+(\{[^}]+\})? [0-9.e+-]+", line), line


@posix
def test_what_is_said_to_programs_is_for_the_same_user_only_and_goes_with_the_studio(home: Path) -> None:
    with Serving(home) as studio:
        for name in ("studio.json", "studio.token", "studio.log"):
            assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
        assert studio.end() == Exit.TERMINATED
        assert {"studio.json", "studio.token"}.isdisjoint(os.listdir(home))


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_open_streams_end_in_good_order_when_it_stops(home: Path, number: int) -> None:
    with ExitStack() as stack, Serving(home) as studio:
        streams = [stack.enter_context(following(studio)) for _ in range(5)]
        assert studio.end(number) == (Exit.INTERRUPTED if number == signal.SIGINT else Exit.TERMINATED)
        for stream in streams:
            # A stream that was cut off would raise IncompleteRead here.
            assert stream.read().strip() in (b"", b":")


@posix
def test_a_request_that_never_ends_does_not_keep_it_from_stopping(home: Path) -> None:
    with Serving(home) as studio, socket.create_connection(("127.0.0.1", studio.port)) as slow:
        head = f"POST /api/v1/presets HTTP/1.1\r\nHost: 127.0.0.1:{studio.port}\r\nContent-Length: 9\r\n"
        slow.sendall(f"{head}Authorization: Bearer {studio.token}\r\n\r\n{{".encode())
        studio.get("/api/v1/presets")
        assert studio.end() == Exit.TERMINATED


@posix
def test_a_second_signal_ends_it_at_once(home: Path) -> None:
    with Serving(home) as studio, socket.create_connection(("127.0.0.1", studio.port)) as slow:
        slow.sendall(
            f"POST /login HTTP/1.1\r\nHost: 127.0.0.1:{studio.port}\r\nContent-Length: 9\r\n\r\nt".encode()
        )
        studio.ask("GET", "/healthz")
        studio.signal(signal.SIGINT)
        # It has taken the first one when nobody can come in any more.
        while _answers(studio.port):
            pass
        assert studio.end(signal.SIGINT) == Exit.INTERRUPTED


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_port_in_use_is_named_with_the_flag_that_chooses_another(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = lorakeet("serve", "--no-browser", "--port", str(port), "--data", home)
    assert done.code == Exit.USAGE
    assert f"Port {port} is in use" in done.stderr and "--port" in done.stderr


def test_a_second_studio_on_the_same_data_says_where_the_first_one_is(home: Path) -> None:
    with Serving(home) as studio:
        for port in ("0", str(studio.port)):
            done = lorakeet("serve", "--no-browser", "--port", port, "--data", home)
            assert done.code == Exit.NO_STUDIO
            assert f"runs already, at {studio.ready['url']}" in done.stderr
            assert "lorakeet link" in done.stderr


def test_beyond_this_machine_it_starts_only_with_a_name(home: Path) -> None:
    done = lorakeet("serve", "--no-browser", "--host", "0.0.0.0", "--port", "0", "--data", home)
    assert done.code == Exit.USAGE
    assert "--allow-host" in done.stderr
    with Serving(home, "--host", "0.0.0.0", "--allow-host", "studio.example") as studio:
        assert studio.ready["url"] == f"http://studio.example:{studio.port}"
        outside = {"Host": f"studio.example:{studio.port}"}
        assert studio.ask("GET", "/healthz", headers=outside).status == 200
        assert studio.ask("GET", "/healthz", headers={"Host": "other.example"}).status == 421
        assert lorakeet("link", "--data", home).code == Exit.DONE


def test_a_token_from_outside_is_taken_from_the_environment_or_a_file(home: Path, tmp_path: Path) -> None:
    token = "a-token-of-at-least-24-characters"
    with Serving(home, env={"LORAKEET_TOKEN": token}) as studio:
        assert studio.ready["token"] is None
        assert studio.ask("GET", "/api/v1/session", token=token).status == 200
    (tmp_path / "token").write_text(f"{token}2\n", encoding="utf-8")
    with Serving(home, "--token-file", str(tmp_path / "token")) as studio:
        assert studio.ask("GET", "/api/v1/session", token=f"{token}2").status == 200
        assert studio.ask("GET", "/api/v1/session", token=token).status == 401
    done = lorakeet("serve", "--port", "0", "--data", home, env={"LORAKEET_TOKEN": "short"})
    assert done.code == Exit.USAGE


def test_a_head_without_end_is_not_waited_for(home: Path) -> None:
    with Serving(home) as studio, socket.create_connection(("127.0.0.1", studio.port)) as endless:
        endless.settimeout(TIMEOUT_S)
        endless.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ")
        with pytest.raises(OSError, match="(?i)pipe|reset|abort"):
            endless.sendall(b"x" * 100 * MAX_HEAD_BYTES)


@posix
def test_the_browser_is_opened_with_no_secret_on_its_command_line(home: Path, tmp_path: Path) -> None:
    script, told = tmp_path / "browser", tmp_path / "told"
    script.write_text(f'#!/bin/sh\necho "$@" > {told}.new; mv {told}.new {told}\n', encoding="utf-8")
    script.chmod(0o755)
    env = {**os.environ, "BROWSER": f"{script} %s", "DISPLAY": ":0", "SSH_CONNECTION": "", "SSH_TTY": ""}
    command = [*LORAKEET, "--data", str(home), "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env) as process:
        until(told.exists)
        page = Path(told.read_text("utf-8").strip().removeprefix("file://"))
        (link,) = set(re.findall(r'href="(\S+/login\?code=\S+)"', page.read_text("utf-8")))
        process.terminate()
        stdout, _ = process.communicate(timeout=TIMEOUT_S)
    assert page.parent == home and not page.exists()
    # The link that people read stays good for them.
    assert link.encode() not in stdout and b"/login?code=" in stdout


def test_no_secret_stands_in_the_log(home: Path) -> None:
    with Serving(home) as studio:
        log_in(studio, studio.ready["link"])
        secrets = [studio.ready["token"], studio.token, studio.ready["link"].partition("=")[2]]
        studio.end()
    log = (home / "studio.log").read_text("utf-8")
    assert studio.ready["boot_id"] in log
    assert not [each for each in secrets if each in log]
