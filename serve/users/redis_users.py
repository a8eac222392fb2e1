"""Events of users in Redis, for fronts on several machines (`users.UserStore`).

A user has two keys. A sorted set holds the events, each by its time and written as

    000000000007 ["milk", 1512129600000, null, null, 2.0]

where the number keeps events of one moment in the order in which they came. A hash says which
events are there, and under the empty name what the next number is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from penchant.platform.errors import ConfigError, UnreachableError
from penchant.serve.wire.fields import Event
from penchant.serve.wire.schema import MAX_EVENTS

__all__ = ["PASSWORD_VARIABLE", "RedisUsers"]

#: Environment variable with the password, where there is one: a URL is written down in many places.
PASSWORD_VARIABLE = "PENCHANT_REDIS_PASSWORD"

_PATIENCE_S = 2.0


class RedisUsers:
    """Events in a Redis.

    Args:
        url: such as redis://localhost:6379/0.

    Raises:
        ConfigError: the URL is not one, or the package `redis` is missing.
        UnreachableError: Redis does not answer.
    """

    def __init__(self, url: str) -> None:
        try:
            import redis  # an extra: most services keep their users in a file
        except ImportError:
            raise ConfigError(
                "A user store in Redis needs the package redis, which is not installed: "
                "`pip install 'penchant[redis]'`, or name a file instead."
            ) from None
        self._error = redis.RedisError
        try:
            self._redis: Any = redis.Redis.from_url(
                url,
                password=os.environ.get(PASSWORD_VARIABLE),
                decode_responses=True,
                socket_timeout=_PATIENCE_S,
                socket_connect_timeout=_PATIENCE_S,
            )
        except ValueError:  # its message may hold the password
            raise ConfigError(
                "The URL of the user store cannot be read: expected one such as "
                "redis://localhost:6379/0."
            ) from None
        with self._reached():
            self._redis.ping()

    def add(self, user: str, events: Sequence[Event]) -> tuple[int, int]:
        history, known = _keys(user)
        given = {_identity(event): event for event in reversed(events)}  # of equals the first
        names = list(reversed(given))
        added = 0

        def write(pipe: Any) -> None:
            nonlocal added
            there = pipe.hmget(known, names)
            number = int(pipe.hget(known, "") or 0)
            new = {
                f"{number + at:012d} {_written(given[name])}": given[name]["time"]
                for at, (name, old) in enumerate(zip(names, there, strict=True))
                if old is None
            }
            over = max(0, pipe.zcard(history) + len(new) - MAX_EVENTS)
            oldest = pipe.zrange(history, 0, over - 1, withscores=True) if over else []
            by_time = sorted([*oldest, *new.items()], key=lambda pair: (pair[1], pair[0]))
            dropped = [event for event, _ in by_time[:over]]
            pipe.multi()
            if new:
                pipe.zadd(history, new)
                mapping = {_name(event): "1" for event in new} | {"": number + len(names)}
                pipe.hset(known, mapping=mapping)
            if dropped:
                pipe.zrem(history, *dropped)
                pipe.hdel(known, *map(_name, dropped))
            added = len(new)

        with self._reached():
            self._redis.transaction(write, history, known)  # again, where others came between
        return added, len(events) - added

    def history(self, user: str, limit: int = MAX_EVENTS) -> list[Event]:
        with self._reached():
            rows = self._redis.zrange(_keys(user)[0], -limit, -1)
        return [_read(row) for row in rows]

    def delete(self, user: str) -> int:
        history, known = _keys(user)
        with self._reached(), self._redis.pipeline(transaction=True) as pipe:
            pipe.zcard(history)
            pipe.delete(history, known)
            gone: int = pipe.execute()[0]
        return gone

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            raise UnreachableError(
                f"The user store in Redis does not answer ({type(error).__name__}): expected a "
                "Redis that runs and accepts this client."
            ) from error


def _keys(user: str) -> tuple[str, str]:
    """Keys of a user's events and of their identities, on one node of a cluster (the braces)."""
    digest = hashlib.blake2b(user.encode(), digest_size=16, person=b"users").hexdigest()
    return f"penchant:user:{{{digest}}}:events", f"penchant:user:{{{digest}}}:known"


def _identity(event: Event) -> str:
    return json.dumps([event["item"], event["time"], event.get("type"), event.get("group")])


def _written(event: Event) -> str:
    facts = event["item"], event["time"], event.get("type"), event.get("group"), event.get("value")
    return json.dumps(facts)


def _read(row: str) -> Event:
    item, time_ms, kind, group, value = json.loads(row.partition(" ")[2])
    return {"item": item, "time": time_ms, "type": kind, "group": group, "value": value}


def _name(row: str) -> str:
    """The identity of an event as it lies in the sorted set."""
    return _identity(_read(row))
