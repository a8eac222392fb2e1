"""What users did, kept between requests, so that a question need not bring its history.

An event is known by its user, item, time, type and group: sent twice, it is kept once. A user's
newest `MAX_EVENTS` events are kept. Calls block: routes make them in a thread.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from penchant.platform.errors import ConfigError, DataError, UnreachableError
from penchant.serve.users.redis_users import PASSWORD_VARIABLE, RedisUsers
from penchant.serve.wire.fields import Event
from penchant.serve.wire.schema import MAX_EVENTS

__all__ = ["SqliteUsers", "UserStore", "check_url", "open_users"]

_REDIS = ("redis", "rediss", "unix")
_BUSY_S = 5.0
_VERSION = 1
_SETUP = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY,  -- grows: events of one moment keep the order in which they came
    user TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    item TEXT NOT NULL,
    type TEXT NOT NULL,  -- '' for none, since NULLs are never equal; so is `basket`
    basket TEXT NOT NULL,
    value REAL,
    UNIQUE (user, time_ms, item, type, basket)
)
"""
_ADD = """
INSERT OR IGNORE INTO events (user, time_ms, item, type, basket, value) VALUES (?, ?, ?, ?, ?, ?)
"""
_TRIM = """
DELETE FROM events WHERE id IN (
    SELECT id FROM events WHERE user = ? ORDER BY time_ms DESC, id DESC LIMIT -1 OFFSET ?
)
"""
_NEWEST = """
SELECT item, time_ms, type, basket, value FROM events
WHERE user = ? ORDER BY time_ms DESC, id DESC LIMIT ?
"""


class UserStore(Protocol):
    """Events of users."""

    def add(self, user: str, events: Sequence[Event]) -> tuple[int, int]:
        """Keep events.

        Returns:
            How many were new, and how many were known already.

        Raises:
            UnreachableError: the store does not answer.
        """
        ...

    def history(self, user: str, limit: int = MAX_EVENTS) -> list[Event]:
        """A user's newest events, at least one, oldest first; none of a user who is not known.

        Raises:
            UnreachableError: the store does not answer.
        """
        ...

    def delete(self, user: str) -> int:
        """Forget a user; returns how many events were forgotten.

        Raises:
            UnreachableError: the store does not answer.
        """
        ...

    def close(self) -> None:
        """Let go of the file or connection."""
        ...


def check_url(url: str) -> None:
    """Whether this could be a store that fronts of several machines share; nobody is asked.

    Raises:
        ConfigError: it is no URL of a Redis, or a password stands in it.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _REDIS:
        got = f"{scheme}://..." if separator else "something that is no URL"  # it may be a password
        raise ConfigError(
            f"--users is {got}, expected a Redis, such as redis://localhost:6379/0. Leave it out "
            "to keep events of users in the service directory."
        )
    if ":" in rest.rpartition("@")[0] or "password=" in rest:
        raise ConfigError(
            "--users holds a password, which others could read where the URL is written down: "
            f"expected it in the environment variable {PASSWORD_VARIABLE} of Serve's processes."
        )


def open_users(place: str | Path) -> UserStore:
    """The store at a Redis URL (redis://, rediss://, unix://) or in an SQLite file.

    Raises:
        ConfigError: the URL is of another kind, or its client is not installed.
        DataError: the file is no such store.
        UnreachableError: Redis does not answer.
    """
    scheme, separator, _ = str(place).partition("://")
    if not separator:
        return SqliteUsers(Path(place))
    if scheme not in _REDIS:
        raise ConfigError(
            f"got a user store at {scheme}://..., expected redis://, rediss://, unix:// or the "
            "path of an SQLite file."
        )
    return RedisUsers(str(place))


class SqliteUsers:
    """Events in an SQLite file that several processes of one machine may share.

    Args:
        path: of the file, which is made where it is missing.

    Raises:
        DataError: the file is no such store.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._of_thread = path, threading.local()
        self._lock, self._connections = threading.Lock(), list[sqlite3.Connection]()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)  # it says what people did
            with _writing(self._connection()) as connection:
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                if version not in (0, _VERSION):
                    raise DataError(
                        f"{path} is a user store of version {version}, expected {_VERSION}. Name "
                        "another file, or use the Penchant that wrote it."
                    )
                connection.execute(_SETUP)
                connection.execute(f"PRAGMA user_version = {_VERSION}")
        except BaseException as error:
            self.close()
            if not isinstance(error, sqlite3.Error | OSError):
                raise
            raise DataError(
                f"{path} cannot be opened as a user store ({error}): expected an SQLite file that "
                "Penchant made, or a place where it may make one. Name another file."
            ) from error

    def add(self, user: str, events: Sequence[Event]) -> tuple[int, int]:
        rows = [
            (user, e["time"], e["item"], e.get("type") or "", e.get("group") or "", e.get("value"))
            for e in events
        ]
        with self._reached() as connection, _writing(connection):
            added = connection.executemany(_ADD, rows).rowcount
            connection.execute(_TRIM, (user, MAX_EVENTS))
        return added, len(rows) - added

    def history(self, user: str, limit: int = MAX_EVENTS) -> list[Event]:
        with self._reached() as connection:
            rows = connection.execute(_NEWEST, (user, limit)).fetchall()
        return [
            {
                "item": item,
                "time": time_ms,
                "type": kind or None,
                "group": basket or None,
                "value": value,
            }
            for item, time_ms, kind, basket, value in reversed(rows)
        ]

    def delete(self, user: str) -> int:
        with self._reached() as connection:
            with _writing(connection):
                gone = connection.execute("DELETE FROM events WHERE user = ?", (user,)).rowcount
            # Until the log is emptied, it still says what was deleted.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return gone

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    @contextmanager
    def _reached(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._connection()
        except sqlite3.Error as error:
            raise UnreachableError(
                f"{self._path} does not answer ({type(error).__name__}): expected a store that is "
                "not locked, on a disk with room."
            ) from error

    def _connection(self) -> sqlite3.Connection:
        """The connection of this thread."""
        found: sqlite3.Connection | None = getattr(self._of_thread, "connection", None)
        if found is None:
            # Closed from another thread, at the end.
            found = sqlite3.connect(
                self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            try:
                _to_wal(found)
                found.execute("PRAGMA synchronous = NORMAL")
                found.execute("PRAGMA secure_delete = ON")
            except BaseException:
                found.close()
                raise
            with self._lock:
                self._connections.append(found)
            self._of_thread.connection = found
        return found


def _to_wal(connection: sqlite3.Connection) -> None:
    """Readers and the writer no longer wait for each other.

    SQLite does not wait for its busy timeout where two that would upgrade their locks might wait
    for each other (sqlite.org/c3ref/busy_handler.html), as many that open a new file do.
    """
    until_s = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until_s:
                raise
            time.sleep(0.02)


@contextmanager
def _writing(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """A transaction that waits for its turn at its start, not in its midst."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
