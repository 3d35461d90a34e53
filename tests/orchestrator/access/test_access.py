"""Tokens, sessions and logins, on a control database of their own."""

import hashlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import pytest

from contract.errors import NotFound, SettingsInvalid, StateConflict, TooManyAttempts, Unauthorized
from orchestrator.access.access import MAX_SESSIONS, SEEN_EVERY_MS, Access, Opened, open_access
from orchestrator.access.attempts import LIMIT
from orchestrator.access.sessions import LASTS_MS
from orchestrator.groups import task_group
from orchestrator.store.control import open_control
from orchestrator.store.database import Database
from tests.orchestrator.clock import Clock

pytestmark = pytest.mark.anyio

CLIENT = "192.0.2.1"
GIVEN = "given-by-the-template-of-a-provider"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_control(tmp_path) as opened:
        yield opened


@pytest.fixture
async def opened(database: Database, clock: Clock) -> Opened:
    return await open_access(database, clock=clock)


@pytest.fixture
def access(opened: Opened) -> Access:
    return opened.access


def _is_in(access: Access, token: str | None) -> bool:
    try:
        return access.check_token(token or "", CLIENT).kind in ("token", "local")
    except Unauthorized:
        return False


async def _log_in(access: Access, agent: str = "a browser") -> str:
    return await access.log_in(access.new_code(), agent, CLIENT)


async def test_the_first_start_makes_a_token_and_later_ones_keep_it(
    database: Database, opened: Opened
) -> None:
    assert opened.minted is not None
    again = await open_access(database)
    assert again.minted is None
    assert _is_in(again.access, opened.minted)


async def test_the_local_token_is_another_at_each_start(database: Database, opened: Opened) -> None:
    again = await open_access(database)
    assert opened.access.check_token(opened.local, CLIENT).kind == "local"
    assert not _is_in(again.access, opened.local)
    assert _is_in(again.access, again.local)


async def test_a_token_from_outside_replaces_ours_for_this_run(database: Database, opened: Opened) -> None:
    given = await open_access(database, given=GIVEN)
    assert given.minted is None
    assert (_is_in(given.access, GIVEN), _is_in(given.access, opened.minted)) == (True, False)
    without = await open_access(database)
    assert (_is_in(without.access, GIVEN), _is_in(without.access, opened.minted)) == (False, True)


async def test_a_first_start_with_a_token_from_outside_makes_none(database: Database) -> None:
    assert (await open_access(database, given=GIVEN)).minted is None
    assert (await open_access(database)).minted is not None


async def test_our_own_token_may_come_from_outside(database: Database, opened: Opened) -> None:
    again = await open_access(database, given=opened.minted)
    assert _is_in(again.access, opened.minted)


async def test_a_weak_token_from_outside_is_refused_and_changes_nothing(
    database: Database, opened: Opened, clock: Clock
) -> None:
    secret = await _log_in(opened.access)
    with pytest.raises(SettingsInvalid):
        await open_access(database, given="too-short")
    assert (await open_access(database, clock=clock)).access.check_session([secret]) is not None


@pytest.mark.parametrize("then", [None, "another-that-somebody-has-changed"])
async def test_nobody_stays_inside_when_the_token_from_outside_changes(
    then: str | None, database: Database
) -> None:
    before = (await open_access(database, given=GIVEN)).access
    secret = await _log_in(before)
    same = (await open_access(database, given=GIVEN)).access
    assert same.check_session([secret]) is not None
    changed = (await open_access(database, given=then)).access
    assert changed.check_session([secret]) is None
    assert (await open_access(database, given=then)).access.sessions() == []


async def test_rotation_ends_the_old_token_every_session_and_every_code_at_once(
    database: Database, opened: Opened
) -> None:
    access = opened.access
    session, code = await _log_in(access), access.new_code()
    fresh = await access.rotate()
    for each in (access, (await open_access(database)).access):
        assert (_is_in(each, opened.minted), _is_in(each, fresh)) == (False, True)
        assert each.check_session([session]) is None
        assert each.sessions() == []
    with pytest.raises(Unauthorized):
        await access.log_in(code, "a browser", CLIENT)
    assert _is_in(access, opened.local)


async def test_a_token_from_outside_is_changed_where_it_is_from(database: Database) -> None:
    access = (await open_access(database, given=GIVEN)).access
    with pytest.raises(StateConflict) as refused:
        await access.rotate()
    assert "LORAKEET_TOKEN" in (refused.value.hint or "")
    assert _is_in(access, GIVEN)


async def test_no_login_outlives_a_rotation_that_it_came_before(
    database: Database, access: Access, clock: Clock
) -> None:
    secrets: list[str] = []

    async def log_in(code: str) -> None:
        with suppress(Unauthorized):
            secrets.append(await access.log_in(code, "a browser", CLIENT))

    for logs_in_first in (True, False):
        code = access.new_code()
        async with task_group() as tasks:
            if logs_in_first:
                tasks.start_soon(log_in, code)
            tasks.start_soon(access.rotate)
            if not logs_in_first:
                tasks.start_soon(log_in, code)
    for each in (access, (await open_access(database, clock=clock)).access):
        assert each.check_session(secrets) is None
        assert each.sessions() == []


async def test_a_change_is_whole_though_whoever_asked_has_left(database: Database, opened: Opened) -> None:
    access = opened.access
    with anyio.CancelScope() as scope:
        scope.cancel()
        await access.rotate()
    for each in (access, (await open_access(database)).access):
        assert not _is_in(each, opened.minted)


async def test_a_code_starts_one_session(access: Access) -> None:
    code = access.new_code()
    secret = await access.log_in(code, "a browser", CLIENT)
    credential = access.check_session([secret])
    assert credential is not None
    assert credential == ("session", access.sessions()[0].id)
    with pytest.raises(Unauthorized):
        await access.log_in(code, "a browser", CLIENT)


async def test_two_browsers_with_one_code_are_one_session(access: Access) -> None:
    code, refused = access.new_code(), 0

    async def log_in() -> None:
        nonlocal refused
        try:
            await access.log_in(code, "a browser", CLIENT)
        except Unauthorized:
            refused += 1

    async with task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(log_in)
    assert (len(access.sessions()), refused) == (1, 4)


async def test_a_session_survives_a_restart(database: Database, access: Access, clock: Clock) -> None:
    secret = await access.start_session("a browser")
    again = (await open_access(database, clock=clock)).access
    assert again.check_session([secret]) == access.check_session([secret])


async def test_the_first_secret_that_is_right_counts(access: Access) -> None:
    secret = await _log_in(access)
    assert access.check_session(["planted", secret]) is not None
    assert access.check_session([]) is None
    assert access.check_session(["planted", "", secret[:-1]]) is None


async def test_sessions_say_whose_they_are_and_when_they_were_seen(access: Access, clock: Clock) -> None:
    first = await _log_in(access, "first\r\nbrowser")
    clock.now_ms += 1_000
    await _log_in(access, "x" * 1_000)
    assert [each.agent for each in access.sessions()] == ["x" * 200, "first  browser"]
    clock.now_ms += SEEN_EVERY_MS
    access.check_session([first])
    newest, oldest = access.sessions()
    assert (newest.agent, newest.seen_ms) == ("first  browser", clock.now_ms)
    assert newest.created_ms < oldest.created_ms < newest.seen_ms


async def test_a_session_ends_thirty_days_after_it_was_last_seen(
    database: Database, access: Access, clock: Clock
) -> None:
    secret = await _log_in(access)
    for _ in range(3):
        clock.now_ms += LASTS_MS - 1
        assert access.check_session([secret]) is not None
    credential = access.check_session([secret])
    assert credential is not None and access.holds(credential)
    clock.now_ms += LASTS_MS
    assert access.check_session([secret]) is None
    assert not access.holds(credential)
    assert access.sessions() == []
    await open_access(database, clock=clock)
    assert await database.read(_kept_ids) == []


async def test_one_session_is_ended_and_the_others_go_on(
    database: Database, access: Access, clock: Clock
) -> None:
    ended, going_on = await _log_in(access), await _log_in(access)
    credential = access.check_session([ended])
    assert credential is not None
    await access.end_session(credential.id)
    for each in (access, (await open_access(database, clock=clock)).access):
        assert each.check_session([ended]) is None
        assert each.check_session([going_on]) is not None
        assert not each.holds(credential)
    with pytest.raises(NotFound):
        await access.end_session(credential.id)


async def test_a_stream_can_ask_whether_it_may_go_on(access: Access, opened: Opened) -> None:
    token = access.check_token(opened.minted or "", CLIENT)
    local = access.check_token(opened.local, CLIENT)
    session = access.check_session([await _log_in(access)])
    assert session is not None
    assert [access.holds(each) for each in (token, local, session)] == [True, True, True]
    await access.rotate()
    assert [access.holds(each) for each in (token, local, session)] == [False, True, False]


async def test_of_very_many_sessions_the_one_unseen_longest_ends(
    database: Database, access: Access, clock: Clock
) -> None:
    secrets = []
    for _ in range(MAX_SESSIONS + 1):
        secrets.append(await access.start_session("a browser"))
        clock.now_ms += 1
    for each in (access, (await open_access(database, clock=clock)).access):
        assert len(each.sessions()) == MAX_SESSIONS
        assert each.check_session(secrets[:1]) is None
        assert each.check_session(secrets[1:2]) is not None


async def test_after_ten_wrong_ones_a_client_has_to_wait_and_the_right_one_passes(
    access: Access, opened: Opened, clock: Clock
) -> None:
    for number in range(LIMIT):
        with pytest.raises(Unauthorized):
            if number % 2:
                access.check_token("lk_wrong", CLIENT)
            else:
                await access.log_in("lk_wrong", "a browser", CLIENT)
    for _ in range(3):
        with pytest.raises(TooManyAttempts) as refused:
            access.check_token("lk_wrong", CLIENT)
        assert refused.value.details["headers"] == {"retry-after": "60"}
    with pytest.raises(TooManyAttempts):
        await access.log_in("lk_wrong", "a browser", CLIENT)
    assert _is_in(access, opened.minted)
    await _log_in(access)
    with pytest.raises(Unauthorized):
        access.check_token("lk_wrong", "192.0.2.2")
    clock.now_ms += 60_000
    with pytest.raises(Unauthorized):
        access.check_token("lk_wrong", CLIENT)


def _kept_ids(connection: sqlite3.Connection) -> list[str]:
    """The ids of the sessions that are kept."""
    return [row[0] for row in connection.execute("SELECT id FROM sessions")]


async def _seen_ms(database: Database) -> int:
    def work(connection: sqlite3.Connection) -> int:
        seen: int = connection.execute("SELECT seen_ms FROM sessions").fetchone()[0]
        return seen

    return await database.read(work)


async def test_that_a_session_was_seen_is_written_once_a_minute(
    database: Database, access: Access, clock: Clock
) -> None:
    secret = await _log_in(access)
    began_ms = clock.now_ms
    clock.now_ms += SEEN_EVERY_MS - 1
    access.check_session([secret])
    await access.save_seen()
    assert await _seen_ms(database) == began_ms
    clock.now_ms += 1
    access.check_session([secret])
    assert await _seen_ms(database) == began_ms, "a request does not wait for the database"
    await access.save_seen()
    assert await _seen_ms(database) == began_ms + SEEN_EVERY_MS


async def test_a_task_writes_when_sessions_were_seen_and_survives_a_store_that_cannot_be_written(
    database: Database, access: Access, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    secret = await _log_in(access)
    await database.write(partial(_rename, "sessions", "away"))
    async with task_group() as tasks:
        tasks.start_soon(access.keep_seen)
        clock.now_ms += SEEN_EVERY_MS
        access.check_session([secret])
        with anyio.fail_after(20):
            while "was not saved" not in caplog.text:
                await anyio.lowlevel.checkpoint()
        await database.write(partial(_rename, "away", "sessions"))
        clock.now_ms += SEEN_EVERY_MS
        access.check_session([secret])
        with anyio.fail_after(20):
            while await _seen_ms(database) < clock.now_ms:
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


def _rename(before: str, after: str, connection: sqlite3.Connection) -> None:
    connection.execute(f"ALTER TABLE {before} RENAME TO {after}")


async def test_no_secret_is_in_the_files_only_their_digests(tmp_path: Path, clock: Clock) -> None:
    async with open_control(tmp_path) as database:
        first = await open_access(database, clock=clock)
        code = first.access.new_code()
        session = await first.access.log_in(code, "a browser", CLIENT)
        rotated = await first.access.rotate()
        kept = await first.access.start_session("a browser")
        secrets = [first.minted or "", first.local, code, session, rotated, kept, GIVEN]
        await open_access(database, given=GIVEN)
        content = _content(tmp_path)
    assert not [each for each in secrets if each.encode() in content]
    assert hashlib.sha256(rotated.encode()).digest() in content


def _content(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


async def test_a_session_does_not_show_its_digest(access: Access) -> None:
    secret = await _log_in(access)
    assert "digest" not in repr(access.sessions())
    assert secret not in repr(access.sessions())
