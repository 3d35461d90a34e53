"""Who may use the studio: whoever has its token, and browsers that logged in with a one-time code.

Knows neither HTTP nor cookies. Of every secret only the digest is kept, in control.db and here in memory, so
that a request is judged without the database.
"""

import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, Literal, NamedTuple, NoReturn

import anyio

from contract.errors import LorakeetError, NotFound, StateConflict, TooManyAttempts, Unauthorized
from orchestrator.access.attempts import Attempts
from orchestrator.access.login_codes import LoginCodes
from orchestrator.access.secret import checked_token, digest, match, new_secret
from orchestrator.access.sessions import (
    Session,
    delete_all,
    delete_sessions,
    insert_session,
    load_sessions,
    new_session,
    update_sessions,
)
from orchestrator.access.tokens import Token, kept_token, outside_changed, replace_token
from orchestrator.clock import now_ms
from orchestrator.ids import new_id
from orchestrator.store.database import Database

#: How often it is written down that a session was seen.
SEEN_EVERY_MS: Final = 60_000
#: More than a person has browsers; every request is compared with each. The one unseen longest gives way.
MAX_SESSIONS: Final = 100

_NEW_LINK: Final = "`lorakeet link` prints a new one."

_log = logging.getLogger("lorakeet.access")


class Credential(NamedTuple):
    """What a request was let in by. `id` says which token or session, and is no secret."""

    kind: Literal["token", "local", "session"]
    id: str


class Opened(NamedTuple):
    """Access, and the secrets that are known at this moment only."""

    access: "Access"
    #: The token, where this is the first start of the data directory.
    minted: str | None
    #: For programs of the same user on this machine, until the studio ends.
    local: str


async def open_access(
    database: Database, *, given: str | None = None, clock: Callable[[], int] = now_ms
) -> Opened:
    """The access of a studio that starts. `given` is a token from outside, good for this run instead of ours.

    Raises SettingsInvalid for a token that is too weak, DiskFull and StoreDamaged.
    """
    fresh, local = new_secret(), new_secret()
    outside = None if given is None else digest(checked_token(given))
    token, sessions = await database.write(partial(_start, outside, digest(fresh), clock()))
    tokens = {token.digest: Credential("token", token.id), digest(local): Credential("local", "local")}
    access = Access(database, clock, tokens, sessions, is_given=outside is not None)
    return Opened(access, fresh if token.digest == digest(fresh) else None, local)


class Access:
    """The token, the sessions and the codes of one studio. Made by `open_access`."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], int],
        tokens: dict[bytes, Credential],
        sessions: Iterable[Session],
        *,
        is_given: bool,
    ) -> None:
        self._database = database
        self._clock = clock
        self._tokens = tokens
        self._sessions = {each.id: each for each in sessions}
        self._is_given = is_given
        self._attempts = Attempts(clock)
        self._codes = LoginCodes(clock)
        # What changes secrets happens one after another, so that no login outlives a rotation it came before.
        self._changing = anyio.Lock()
        self._unsaved: dict[str, Session] = {}
        self._seen = anyio.Event()

    def check_token(self, token: str, client: str) -> Credential:
        """What `token` lets in by. Raises Unauthorized, and TooManyAttempts after many wrong ones."""
        found = match(digest(token), self._tokens.items())
        if found is None:
            self._refuse(client, "This token is not valid.", "It was rotated, or was not copied whole.")
        return found

    def check_session(self, secrets: Iterable[str]) -> Credential | None:
        """What the first of `secrets` that belongs to a session lets in by; the session is seen by it.

        Wrong ones are not counted: a browser that was away too long has one, and is to be told to log in.
        """
        alive = [(each.digest, each) for each in self.sessions()]
        for secret in secrets:
            session = match(digest(secret), alive)
            if session is not None:
                self._see(session)
                return Credential("session", session.id)
        return None

    def holds(self, credential: Credential) -> bool:
        """Whether what was let in would be now: a stream that goes on and on asks from time to time."""
        if credential.kind == "session":
            return any(each.id == credential.id for each in self.sessions())
        return credential in self._tokens.values()

    def sessions(self) -> list[Session]:
        """Every session, the one seen last first."""
        now = self._clock()
        alive = [each for each in self._sessions.values() if each.expires_ms > now]
        return sorted(alive, key=lambda each: each.seen_ms, reverse=True)

    def new_code(self) -> str:
        """A code that logs one browser in, once, within ten minutes."""
        return self._codes.make()

    async def log_in(self, code: str, agent: str, client: str) -> str:
        """The secret of a new session, for a one-time code. An error of the disk costs the code.

        Raises Unauthorized, TooManyAttempts, DiskFull and StoreDamaged.
        """
        async with self._change():
            if not self._codes.use(code):
                self._refuse(client, "This login link was used already, or is too old.", _NEW_LINK)
            return await self._begin(agent)

    async def start_session(self, agent: str) -> str:
        """The secret of a new session, for whoever has the token. Raises DiskFull and StoreDamaged."""
        async with self._change():
            return await self._begin(agent)

    async def end_session(self, session_id: str) -> None:
        """End a session at once. Raises NotFound, DiskFull and StoreDamaged."""
        async with self._change():
            if session_id not in self._sessions:
                raise NotFound("There is no such session.", where=session_id)
            await self._database.write(partial(delete_sessions, ids=[session_id]))
            del self._sessions[session_id]

    async def rotate(self) -> str:
        """A new token. The old one, every session and every code end at once.

        Raises StateConflict where the token was given from outside, DiskFull and StoreDamaged.
        """
        if self._is_given:
            raise StateConflict(
                "The token was given when the studio started, and would be back at the next start.",
                hint="Change LORAKEET_TOKEN or --token-file and start again; that ends every session too.",
            )
        secret = new_secret()
        async with self._change():
            token = await self._database.write(partial(_rotate, digest(secret), self._clock()))
            local = {each: of for each, of in self._tokens.items() if of.kind == "local"}
            self._tokens = {token.digest: Credential("token", token.id), **local}
            self._sessions.clear()
            self._codes.clear()
        return secret

    async def keep_seen(self) -> None:
        """Write down when sessions were last seen, at most once a minute each. Runs until it is canceled."""
        while True:
            await self._seen.wait()
            self._seen = anyio.Event()
            try:
                await self.save_seen()
            except LorakeetError as error:
                # The next minute tries again, and nobody is logged out for a disk that was full for a while.
                _log.warning("When sessions were last seen was not saved: %s", error.message)

    async def save_seen(self) -> None:
        """Write down what `keep_seen` has not yet. Raises DiskFull and StoreDamaged."""
        rows = [(each.seen_ms, each.expires_ms, each.id) for each in self._unsaved.values()]
        self._unsaved.clear()
        if rows:
            await self._database.write(partial(update_sessions, rows=rows))

    @asynccontextmanager
    async def _change(self) -> AsyncIterator[None]:
        # Whoever asked may leave meanwhile; memory follows the database all the same.
        with anyio.CancelScope(shield=True):
            async with self._changing:
                yield

    async def _begin(self, agent: str) -> str:
        secret = new_secret()
        session = new_session(new_id("session"), digest(secret), agent, self._clock())
        staying = {each.id for each in self.sessions()[: MAX_SESSIONS - 1]}
        leaving = self._sessions.keys() - staying
        await self._database.write(partial(_exchange, session, leaving))
        self._sessions = {each: of for each, of in self._sessions.items() if each in staying}
        self._sessions[session.id] = session
        return secret

    def _see(self, session: Session) -> None:
        now = self._clock()
        if now - session.seen_ms >= SEEN_EVERY_MS:
            session.see(now)
            self._unsaved[session.id] = session
            self._seen.set()

    def _refuse(self, client: str, message: str, hint: str) -> NoReturn:
        wait_s = -(-self._attempts.add(client) // 1000)
        if not wait_s:
            raise Unauthorized(message, hint=hint)
        raise TooManyAttempts(
            "Too many wrong tokens or codes came from this address.",
            hint=f"Wait {wait_s} s. A right one is taken all the same.",
            details={"headers": {"retry-after": str(wait_s)}},
        )


def _start(
    outside: bytes | None, fresh: bytes, now_ms: int, connection: sqlite3.Connection
) -> tuple[Token, list[Session]]:
    """The token that counts in this run, and the sessions that go on."""
    if outside_changed(connection, outside):
        # Whoever changes the token from outside expects that nobody is left inside by the one before.
        delete_all(connection)
    sessions = load_sessions(connection, now_ms)
    if outside is not None:
        return Token("given", outside), sessions
    return kept_token(connection) or replace_token(connection, fresh, now_ms), sessions


def _rotate(token: bytes, now_ms: int, connection: sqlite3.Connection) -> Token:
    delete_all(connection)
    return replace_token(connection, token, now_ms)


def _exchange(session: Session, leaving: Iterable[str], connection: sqlite3.Connection) -> None:
    delete_sessions(connection, leaving)
    insert_session(connection, session)
