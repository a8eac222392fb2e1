"""Users by a keyed hash: what is logged cannot be led back to an id without the service's key."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from penchant.platform.errors import DataError

__all__ = ["hash_user", "user_key"]

_FILE = "user-hash.key"
_BYTES = 32


def user_key(service: Path) -> bytes:
    """The key of a service directory; made on the first call, the same for all processes.

    Only the owner may read its file. Without it hashes cannot be made again: back it up, or
    remove it so that what was logged is of nobody.

    Raises:
        OSError: it can be neither read nor made.
        DataError: the file holds something else.
    """
    path = service / _FILE
    if not path.exists():
        _make(path)
    key = path.read_bytes()
    if len(key) != _BYTES:
        raise DataError(
            f"{path} holds {len(key)} bytes, expected the {_BYTES} of a key. Restore it; or remove "
            "it for a new one, with which users that were logged before cannot be deleted."
        )
    return key


def hash_user(key: bytes, user: str) -> str:
    """32 hexadecimal digits that are the same for the same user and key (BLAKE2b, keyed)."""
    text = user.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, key=key, digest_size=16).hexdigest()


def _make(path: Path) -> None:
    """Several replicas may get here at once: the first link wins, and it is always whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{_FILE}.{os.getpid()}.{secrets.token_hex(4)}")
    file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(file, "wb") as opened:
            opened.write(secrets.token_bytes(_BYTES))
            opened.flush()
            os.fsync(opened.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(partial, path)
    finally:
        partial.unlink()
