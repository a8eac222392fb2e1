"""Errors that trying again cannot mend, told by workers to whoever started them.

Ray Train starts a worker group anew when a worker raises, which is right where a node went away and
wrong where the recipe is. A worker that cannot go on writes down why instead. Where all did, they
end in peace; where some still wait for others in the middle of a step, raising frees them, and the
group that Ray starts next finds what was written and ends at once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from penchant.platform.errors import ConfigError, DataError, PenchantError, RunError
from penchant.platform.store import write_json
from penchant.trainers.course import Group
from penchant.trainers.memory_trouble import out_of_memory, ran_out

__all__ = ["forget_refusal", "read_refusal", "refusing"]

_WAIT_S = 5.0  # for the other workers to refuse too
_KINDS: dict[str, type[PenchantError]] = {
    kind.__name__: kind for kind in (ConfigError, DataError, RunError)
}


def refusing(work: Callable[[], None], place: Path, group: Group, dials: str) -> bool:
    """Do the work of a worker; whether it was done, or refused for a reason that is written down.

    Args:
        place: a directory that all workers see.
        dials: settings to turn where memory runs out.
    """
    if (earlier := read_refusal(place)) is not None:
        _write(place, group, earlier, "")
        return False
    try:
        work()
    except Exception as error:
        if ran_out(error):
            told: BaseException = out_of_memory(error, place, dials)
        else:
            told = error
        if not isinstance(told, PenchantError):
            raise
        _write(place, group, told, _where_kept(place))
        if not _all_refuse(place, group.workers):
            raise
        return False
    return True


def read_refusal(place: Path) -> PenchantError | None:
    """The error for which workers would not go on, if there is one."""
    for path in sorted(place.glob("refused-*.json")):
        card = json.loads(path.read_text())
        return _KINDS.get(card["kind"], RunError)(card["message"])
    return None


def forget_refusal(place: Path) -> None:
    """Another attempt begins: what stopped the last one may be mended."""
    for path in place.glob("refused-*.json"):
        path.unlink()


def _write(place: Path, group: Group, error: PenchantError, more: str) -> None:
    card = {"kind": type(error).__name__, "message": str(error) + more}
    write_json(place / f"refused-{group.rank}.json", card)


def _where_kept(place: Path) -> str:
    kept = sorted(place.rglob("checkpoint_*/"))
    return f" The last checkpoint lies in {kept[-1]}." if kept else ""


def _all_refuse(place: Path, workers: int) -> bool:
    began = time.monotonic()
    while len(list(place.glob("refused-*.json"))) < workers:
        if time.monotonic() - began > _WAIT_S:
            return False
        time.sleep(0.05)
    return True
