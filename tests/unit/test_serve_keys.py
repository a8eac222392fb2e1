"""Keys: shown once, kept as hashes, changed while served, and never opened by a broken file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from penchant.platform.errors import ConfigError
from penchant.serve.gate.keys import Key, KeyRing


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ring(tmp_path: Path, clock: Clock) -> KeyRing:
    """A ring in a process that serves; others change the file."""
    return KeyRing(tmp_path, clock=clock)


def names(*keys: Key | None) -> list[str | None]:
    return [key.name if key else None for key in keys]


def test_a_key_is_known_by_its_text_and_by_nothing_else(ring: KeyRing) -> None:
    one, two = ring.add("one"), ring.add("two", rate_per_s=0.5, burst=3)
    assert re.fullmatch(r"pk_[A-Za-z0-9_-]{43}", one)
    assert names(ring.check(one), ring.check(two)) == ["one", "two"]
    wrong = ["", "pk_", one[:-1], one + "=", one.upper(), f" {one}", "one", "\ud800", "\x00" * 9]
    digest = hashlib.sha256(one.encode()).hexdigest()
    assert names(*map(ring.check, [*wrong, digest])) == [None] * (len(wrong) + 1)
    found = ring.check(two)
    assert found is not None
    assert (found.rate_per_s, found.burst) == (0.5, 3)


def test_every_key_is_compared_also_after_the_right_one(
    ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [ring.add(f"k{at}") for at in range(4)][0]
    compared: list[str] = []

    def note(known: str, given: str) -> bool:
        compared.append(known)
        return known == given

    monkeypatch.setattr("hmac.compare_digest", note)
    assert names(ring.check(first), ring.check("pk_wrong")) == ["k0", None]
    assert compared == 2 * [key.sha256 for key in ring.stored()]


def test_the_file_holds_hashes_for_its_owner_alone(ring: KeyRing) -> None:
    key = ring.add("shop", rate_per_s=5, burst=7)
    kept = json.loads(ring.path.read_text())
    assert key not in ring.path.read_text()
    assert stat.S_IMODE(ring.path.stat().st_mode) == 0o600
    created = kept["keys"][0].pop("created")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", created)
    digest = hashlib.sha256(key.encode()).hexdigest()
    assert kept == {"keys": [{"name": "shop", "rate_per_s": 5, "burst": 7, "sha256": digest}]}
    assert digest not in repr(ring.stored())
    assert [path.name for path in ring.path.parent.iterdir()] == ["keys.json"]


def test_a_change_holds_within_a_second(ring: KeyRing, clock: Clock, tmp_path: Path) -> None:
    assert ring.check("pk_any") is None
    key = KeyRing(tmp_path).add("late")
    clock.now_s = 0.9
    assert ring.check(key) is None
    clock.now_s = 1.0
    assert names(ring.check(key)) == ["late"]
    KeyRing(tmp_path).revoke("late")
    clock.now_s = 2.0
    assert ring.check(key) is None


def test_the_file_is_read_only_when_it_changed(
    ring: KeyRing, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ring.add("shop")
    assert ring.check(key)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read again"))
    for clock.now_s in range(1, 5):
        assert ring.check(key)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'{"keys": [{}]}',
        b'{"keys": [], "more": 1}',
        b'{"keys": [{"name": "a", "created": "", "rate_per_s": 0, "burst": 1, "sha256": ""}]}',
        None,
    ],
)
def test_a_broken_file_keeps_the_last_good_keys_and_says_so_once(
    ring: KeyRing, clock: Clock, broken: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    key = ring.add("shop")
    assert ring.check(key)
    good = ring.path.read_bytes()
    ring.path.unlink()
    if broken is not None:
        ring.path.write_bytes(broken)
    for clock.now_s in range(1, 5):
        assert names(ring.check(key), ring.check("pk_wrong")) == ["shop", None]
    assert len(caplog.records) == 1
    assert "the last good keys stay: 1" in caplog.text
    ring.path.write_bytes(good)
    ring.revoke("shop")
    clock.now_s = 5
    assert ring.check(key) is None


def test_a_file_that_cannot_be_read_for_a_while_is_tried_again(
    ring: KeyRing, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = KeyRing(tmp_path).add("shop")

    def refuse(_: Path) -> bytes:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", refuse)
        assert ring.check(key) is None
    clock.now_s = 1
    assert names(ring.check(key)) == ["shop"]


def test_without_a_file_nobody_is_known(ring: KeyRing) -> None:
    assert ring.stored() == []
    assert ring.check("") is None


def test_a_broken_file_is_not_written_over(ring: KeyRing) -> None:
    ring.path.write_text("{")
    for change in (lambda: ring.add("new"), lambda: ring.revoke("new"), ring.stored):
        with pytest.raises(ConfigError, match="not as it was written"):
            change()
    assert ring.path.read_text() == "{"


@pytest.mark.parametrize(
    "name", ["", "x" * 41, "Shop", "a_b", "a b", "a\n", "../a", "\u00e9", "1\u0661"]
)
def test_names_are_plain(ring: KeyRing, name: str) -> None:
    with pytest.raises(ConfigError, match="small letters"):
        ring.add(name)
    assert not ring.path.exists()


@pytest.mark.parametrize(
    ("rate_per_s", "burst"),
    [(0, 1), (-1, 1), (float("nan"), 1), (float("inf"), 1), (1e7, 1), (1, 0), (1, 10**7)],
)
def test_limits_are_positive_and_bounded(ring: KeyRing, rate_per_s: float, burst: int) -> None:
    with pytest.raises(ConfigError, match="expected a rate above 0"):
        ring.add("shop", rate_per_s, burst)


def test_names_are_unique_and_free_again_once_revoked(ring: KeyRing, clock: Clock) -> None:
    old = ring.add("shop")
    with pytest.raises(ConfigError, match="already"):
        ring.add("shop")
    ring.revoke("shop")
    with pytest.raises(ConfigError, match="Keys: none"):
        ring.revoke("shop")
    new = ring.add("shop")
    assert names(ring.check(old), ring.check(new)) == [None, "shop"]


def test_keys_added_at_once_are_all_kept(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda at: KeyRing(tmp_path).add(f"k{at}"), range(24)))
    ring = KeyRing(tmp_path)
    assert names(*map(ring.check, made)) == [f"k{at}" for at in range(24)]


def test_a_write_that_fails_leaves_the_old_file(
    ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring.add("shop")
    before = ring.path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        ring.add("more")
    assert ring.path.read_bytes() == before
    assert [path.name for path in ring.path.parent.iterdir()] == ["keys.json"]
