"""What users did is kept once, in its order, within its bound, and forgotten when asked to."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis

from penchant.platform.errors import ConfigError, DataError, UnreachableError
from penchant.serve.users import redis_users, users
from penchant.serve.users.redis_users import RedisUsers
from penchant.serve.users.users import SqliteUsers, UserStore, open_users
from penchant.serve.wire.fields import Event

Open = Callable[[], UserStore]


@pytest.fixture(params=["sqlite", "redis"])
def open_one(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Open]:
    """Opens the same store, as each of several processes does."""
    opened: list[Any] = []
    server = fakeredis.FakeServer()

    def from_url(url: str, **more: Any) -> fakeredis.FakeRedis:
        return fakeredis.FakeRedis(server=server, decode_responses=more["decode_responses"])

    monkeypatch.setattr(redis.Redis, "from_url", from_url)

    def make() -> UserStore:
        place = "redis://localhost" if request.param == "redis" else tmp_path / "users.sqlite"
        opened.append(open_users(place))
        store: UserStore = opened[-1]
        return store

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(open_one: Open) -> UserStore:
    return open_one()


def event(item: str, time_ms: int, **more: Any) -> Event:
    made: Any = {"item": item, "time": time_ms} | more
    return made


def kept(store: UserStore, user: str, **limit: int) -> list[tuple[Any, ...]]:
    names = ("item", "time", "type", "group", "value")
    return [tuple(e.get(n) for n in names) for e in store.history(user, **limit)]


def test_events_come_back_oldest_first_and_those_of_a_moment_in_their_order(
    store: UserStore,
) -> None:
    store.add("ann", [event("z", 5), event("c", 9), event("a", 5, type="buy", group="g", value=2)])
    store.add("ann", [event("b", -7), event("m", 5)])
    assert kept(store, "ann") == [
        ("b", -7, None, None, None),
        ("z", 5, None, None, None),
        ("a", 5, "buy", "g", 2.0),
        ("m", 5, None, None, None),
        ("c", 9, None, None, None),
    ]
    assert [item for item, *_ in kept(store, "ann", limit=2)] == ["m", "c"]


def test_an_event_that_is_sent_again_is_kept_once(store: UserStore) -> None:
    first = [event("a", 5, value=1.0), event("a", 5, value=3.0), event("a", 5, group="g")]
    assert store.add("ann", first) == (2, 1)
    assert store.add("ann", first) == (0, 3)
    others = [event("a", 6), event("b", 5), event("a", 5, type="buy"), event("a", 5, group="h")]
    assert store.add("ann", [*first, *others]) == (4, 3)
    assert kept(store, "ann")[0] == ("a", 5, None, None, 1.0)
    assert len(kept(store, "ann")) == 6


def test_users_are_apart_and_one_is_forgotten_alone(store: UserStore, open_one: Open) -> None:
    odd = "Zoë {1}/'; DROP TABLE events; --\u05d0 :"
    for user in ("ann", odd):
        store.add(user, [event("a", 5), event("b\x00'\"\u20ac", 6)])
    assert store.history("nobody") == []
    assert store.delete("ann") == 2
    assert store.delete("ann") == 0
    assert store.history("ann") == []
    assert [item for item, *_ in kept(open_one(), odd)] == ["a", "b\x00'\"\u20ac"]
    assert store.add("ann", [event("a", 5)]) == (1, 0)


def test_the_newest_events_of_a_user_are_kept(
    store: UserStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (users, redis_users):
        monkeypatch.setattr(module, "MAX_EVENTS", 3)
    store.add("bob", [event("own", 1)])
    store.add("ann", [event("d", 40), event("b", 20), event("a", 20), event("e", 50)])
    assert [item for item, *_ in kept(store, "ann")] == ["a", "d", "e"]
    store.add("ann", [event("older", 10), event("c", 30)])
    assert [item for item, *_ in kept(store, "ann")] == ["c", "d", "e"]
    assert store.add("ann", [event("d", 40)]) == (0, 1)
    assert store.add("ann", [event("a", 20)]) == (1, 0)  # it had been dropped
    assert [item for item, *_ in kept(store, "ann")] == ["c", "d", "e"]
    assert len(kept(store, "bob")) == 1


def test_several_fronts_may_write_at_once(open_one: Open) -> None:
    stores = [open_one() for _ in range(3)]

    def add(at: int) -> tuple[int, int]:
        return stores[at % 3].add("ann", [event(f"i{at // 2}", at // 2)])

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(add, range(80)))
    assert [sum(part) for part in zip(*found, strict=True)] == [40, 40]
    assert [time for _, time, *_ in kept(stores[0], "ann")] == list(range(40))


def test_many_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    ready = threading.Barrier(8)

    def open_it(path: Path) -> SqliteUsers:
        ready.wait()
        return SqliteUsers(path)

    with ThreadPoolExecutor(8) as pool:
        for path in [tmp_path / f"new{at}" / "users.sqlite" for at in range(20)]:
            for opened in pool.map(open_it, [path] * 8):
                opened.close()
            assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_forgotten_is_on_the_disk_no_more(tmp_path: Path) -> None:
    store = SqliteUsers(tmp_path / "users.sqlite")
    secrets = [event(f"embarrassing-{at}", at) for at in range(500)]
    store.add("ann-who-left", secrets)
    store.add("bob", [event("bread", 5)])

    def lies_there(text: bytes) -> bool:
        return any(text in path.read_bytes() for path in tmp_path.iterdir())

    assert lies_there(b"embarrassing-3")
    store.delete("ann-who-left")
    assert not lies_there(b"embarrassing-")
    assert not lies_there(b"ann-who-left")
    assert lies_there(b"bread")
    store.close()


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "users.sqlite"
    path.write_text("something else, which is longer than the header of a database: " * 20)
    with pytest.raises(DataError, match=r"users\.sqlite cannot be opened"):
        open_users(path)
    with pytest.raises(DataError, match="cannot be opened"):
        open_users(str(tmp_path))
    newer = tmp_path / "newer.sqlite"
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(DataError, match="version 9"):
        open_users(newer)


def test_a_locked_file_is_unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "_BUSY_S", 0.05)
    store = SqliteUsers(tmp_path / "users.sqlite")
    other = sqlite3.connect(tmp_path / "users.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnreachableError, match="does not answer"):
        store.add("ann", [event("a", 1)])
    assert store.history("ann") == []
    other.execute("ROLLBACK")
    other.close()
    assert store.add("ann", [event("a", 1)]) == (1, 0)
    store.close()


def test_a_url_of_another_kind_or_without_its_server_is_refused() -> None:
    with pytest.raises(ConfigError, match="mysql://"):
        open_users("mysql://user:secret@host/users")
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        RedisUsers("redis://localhost/0?socket_timeout=secret")
    assert "secret" not in str(caught.value)
    with pytest.raises(UnreachableError, match="does not answer"):
        RedisUsers("redis://127.0.0.1:1/0")


@pytest.mark.parametrize("password", ["secret", None])
def test_the_password_of_a_redis_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, password: str | None
) -> None:
    used = []

    def ping(client: redis.Redis) -> None:
        used.append(client.get_connection_kwargs()["password"])

    monkeypatch.setattr(redis.Redis, "ping", ping)
    monkeypatch.delenv("PENCHANT_REDIS_PASSWORD", raising=False)
    if password is not None:
        monkeypatch.setenv("PENCHANT_REDIS_PASSWORD", password)
    RedisUsers("redis://shop@localhost/0").close()
    assert used == [password]


def test_a_file_that_broke_leaves_no_connection_open(tmp_path: Path) -> None:
    """Else a front would run out of descriptors, and not only for users."""
    path = tmp_path / "users.sqlite"
    store = SqliteUsers(path)
    path.write_bytes(b"no database" * 1000)
    for left in tmp_path.glob("users.sqlite-*"):
        left.unlink()
    with ThreadPoolExecutor(3) as pool:  # threads that have none yet
        tried = [pool.submit(store.history, "ann") for _ in range(9)]
    assert {type(one.exception()) for one in tried} == {UnreachableError}
    assert len(store._connections) == 1
    store.close()
