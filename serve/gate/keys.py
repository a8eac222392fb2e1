"""API keys of a service: who may ask, and how often. Only hashes of them are kept.

A key is 256 random bits, so nobody can try them all, and one pass of SHA-256 is enough: slow,
salted hashes exist for secrets that people choose (NIST SP 800-63B, section 5.1.2.2, asks for them
below 112 bits).
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import logging
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from penchant.platform.errors import ConfigError

__all__ = ["KEYS_FILE", "PREFIX", "Key", "KeyRing"]

logger = logging.getLogger(__name__)

KEYS_FILE = "keys.json"
#: Every key begins so, which lets people and scanners know one when it lies around.
PREFIX = "pk_"

#: Seconds between two looks at the file.
_LOOK_EVERY_S = 1.0
_NAME = re.compile(r"[a-z0-9-]{1,40}")


class Key(BaseModel):
    """What is kept of a key."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Annotated[str, StringConstraints(pattern=rf"^{_NAME.pattern}\z")]
    created: str = Field(description="ISO 8601, UTC.")
    rate_per_s: float = Field(gt=0, le=1e6, description="Requests a second that it may keep up.")
    burst: int = Field(ge=1, le=1_000_000, description="Requests that it may make at once.")
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}\z")] = Field(repr=False)


class _KeysFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[Key]


class KeyRing:
    """The keys in the file `keys.json` of a service directory.

    Keys that are added or revoked hold within a second, in every process that has a ring. A file
    that has become broken, unreadable or lost leaves the last good keys in force: to shut
    everybody out, revoke their keys.

    Args:
        directory: of the service.
        clock: seconds, never going back.
    """

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = directory / KEYS_FILE
        self._clock = clock
        self._keys: Sequence[Key] = ()
        self._look_at_s = -float("inf")
        self._read_stamp: tuple[int, ...] = ()
        self._blamed_stamp: tuple[int, ...] | None = None

    def check(self, token: str) -> Key | None:
        """The key that this is, if it is one. How long it takes tells nothing about the keys."""
        self._look()
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        found = None
        for key in self._keys:  # to the end, also after the right one
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    def named(self, name: str) -> Key | None:
        """The key of this name that is in force."""
        return next((key for key in self._keys if key.name == name), None)

    def stored(self) -> list[Key]:
        """All keys that the file holds now, the oldest first; none where there is no file.

        Raises:
            ConfigError: the file is not as it was written.
        """
        try:
            return _read(self.path)
        except FileNotFoundError:
            return []

    def add(self, name: str, rate_per_s: float = 50.0, burst: int = 100) -> str:
        """Make a key. It is returned here and never again.

        Raises:
            ConfigError: the name is taken or not as names are, or a limit is out of range.
        """
        token = PREFIX + secrets.token_urlsafe(32)
        made = _new_key(name, rate_per_s, burst, token)
        with self._changing():
            keys = self.stored()
            if any(key.name == name for key in keys):
                raise ConfigError(
                    f"{self.path}: there is a key {name!r} already. Choose another name, or "
                    "revoke that one first."
                )
            self._write([*keys, made])
        return token

    def revoke(self, name: str) -> None:
        """Forget a key: requests with it are refused from now on.

        Raises:
            ConfigError: no key has this name.
        """
        with self._changing():
            keys = self.stored()
            left = [key for key in keys if key.name != name]
            if len(left) == len(keys):
                known = ", ".join(key.name for key in keys) or "none"
                raise ConfigError(f"{self.path}: no key is called {name!r}. Keys: {known}.")
            self._write(left)

    def _look(self) -> None:
        """Take in a file that has changed. One short read, so the event loop may wait for it."""
        now_s = self._clock()
        if now_s < self._look_at_s:
            return
        self._look_at_s = now_s + _LOOK_EVERY_S
        stamp = _stamp(self.path)
        if stamp == self._read_stamp:
            return
        try:
            self._keys, self._read_stamp = _read(self.path), stamp
            self._blamed_stamp = None
        except (OSError, ConfigError) as error:
            if stamp != self._blamed_stamp:  # one line, not one a second
                self._blamed_stamp = stamp
                what = error.strerror if isinstance(error, OSError) else "not as it was written"
                logger.error(
                    "%s: %s; the last good keys stay: %d", self.path, what, len(self._keys)
                )

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Two processes that change the file at once do it one after the other."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    def _write(self, keys: Sequence[Key]) -> None:
        """Whole or not at all, for the owner's eyes alone (mkstemp makes files of mode 0600)."""
        text = _KeysFile(keys=list(keys)).model_dump_json(indent=2)
        handle, name = tempfile.mkstemp(prefix=f".{KEYS_FILE}-", dir=self.path.parent)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)
        except BaseException:
            os.unlink(name)
            raise


def _new_key(name: str, rate_per_s: float, burst: int, token: str) -> Key:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"key name {name!r}: expected 1 to 40 small letters, digits or hyphens, such as "
            "'shop-backend'."
        )
    created = datetime.now(UTC).isoformat(timespec="seconds")
    digest = hashlib.sha256(token.encode()).hexdigest()
    try:
        return Key(name=name, created=created, rate_per_s=rate_per_s, burst=burst, sha256=digest)
    except ValidationError:
        raise ConfigError(
            f"key {name!r}: received {rate_per_s} requests a second and bursts of {burst}; "
            "expected a rate above 0 and a whole burst of at least 1, both at most a million."
        ) from None


def _read(path: Path) -> list[Key]:
    text = path.read_bytes()
    try:
        return _KeysFile.model_validate_json(text).keys
    except ValidationError:
        raise ConfigError(
            f"{path}: not as it was written. Put a copy of it back, or move it away and make the "
            "keys anew with: penchant serve key add NAME --service DIR"
        ) from None


def _stamp(path: Path) -> tuple[int, ...]:
    """Changes when the file or its permissions do; (0,) where none is to be seen."""
    try:
        now = path.stat()
    except OSError:
        return (0,)
    return (now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
