"""From which events weights have learned, and until when: kept beside them, wherever they go.

`learned.json` stands in every directory that training can begin with: a member's, the `text/` of a
sequence member, a pretrained base's. It tells of what the weights there began with, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from penchant.platform.errors import DataError
from penchant.platform.store import write_json

__all__ = ["Learned", "learned_here", "read_learned", "write_learned"]

_FILE = "learned.json"


@dataclass(frozen=True, kw_only=True)
class Learned:
    """Events that weights have learned from.

    Attributes:
        events: fingerprint of their log; None where it is not known.
        origin: digest of where the log was read from, the same when it has grown; None likewise.
        until_ms: nothing from then on was learned from.
    """

    events: str | None
    origin: str | None
    until_ms: int


def learned_here(log: Path, until_ms: int) -> Learned:
    """What is learned from a run's log directory up to a cut-off."""
    card = _read(log / "log.json")
    source = card.get("source")
    origin = _origin(source) if source else None
    return Learned(events=card.get("fingerprint"), origin=origin, until_ms=until_ms)


def read_learned(source: Path) -> list[Learned]:
    """All that a base, a member or its `text/` has learned from; empty for a base of others.

    Raises:
        DataError: the record is there and cannot be read.
    """
    try:
        kept = json.loads((source / _FILE).read_text())
        return [Learned(**entry) for entry in kept]
    except (FileNotFoundError, NotADirectoryError):
        return _without_record(source)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{source / _FILE} cannot be read: {error}. Expected a list of events, origin and "
            "until_ms, which says what the weights beside it know. Bring the file back from where "
            "the directory was made."
        ) from error


def write_learned(directory: Path, own: Iterable[Learned], sources: Iterable[Path]) -> None:
    """Keep what weights have learned from: themselves, and through what they began with."""
    latest: dict[tuple[str, str], Learned] = {}
    for entry in (*own, *(entry for source in sources for entry in read_learned(source))):
        key = entry.events or "", entry.origin or ""
        if key not in latest or latest[key].until_ms < entry.until_ms:
            latest[key] = entry
    write_json(directory / _FILE, [asdict(latest[key]) for key in sorted(latest)])


def _origin(source: Mapping[str, Any]) -> str:
    """Of what a log was built from: the named source, or the paths as given and where they lead.

    What a pattern finds does not count, so that it stays the same when it finds one more file, or
    one more folder. No path is read from the working directory, which is another one in workers.
    """
    data = source["data"]
    paths = (data.get("events") or {}).get("paths", ())
    files = [Path(file["path"]) for file in source["files"]]
    named = data.get("source") or [_place(Path(path), files) for path in paths]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _place(given: Path, files: Sequence[Path]) -> list[str]:
    """Where a path leads that may be relative, up to its first wildcard; and the rest of it."""
    wild = (at for at, part in enumerate(given.parts) if set(part) & set("*?["))
    stop = next(wild, len(given.parts) - 1)
    fixed = tuple(part for part in given.parts[:stop] if part != "..")
    rest = str(Path(*given.parts[stop:]))
    if given.is_absolute():
        return [str(Path(*fixed)), rest]
    found = [file for file in files if file.match(given.name)] or files
    places = [place for file in found for place in file.parents]
    ends = (place for place in places if fixed and place.parts[-len(fixed) :] == fixed)
    above = len(given.parts) - stop - 1
    return [str(next(ends, found[0].parents[above] if found and not fixed else "")), rest]


def _without_record(source: Path) -> list[Learned]:
    """What earlier versions left: known of pretrained bases, and of members in a run directory."""
    found = []
    base = _read(source / "pretrain.json").get("data", {})
    if "until" in base:
        until_ms = round(datetime.fromisoformat(base["until"]).timestamp() * 1000)
        found.append(Learned(events=base.get("fingerprint"), origin=None, until_ms=until_ms))
    for member in (source, source.parent):
        facts = _read(member / "metrics.json")
        if "until_ms" in facts:
            found.append(learned_here(member.parent.parent / "log", facts["until_ms"]))
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
