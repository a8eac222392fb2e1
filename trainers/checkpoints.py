"""Checkpoints that can be trusted: sealed when written, looked through before one is gone on from.

A kill may leave half of one, and a disk a part of one. So each holds the digests of its files, and
a training goes on from the last that is whole: Ray Train keeps two. Its list of them, which is not
written in one piece, may be torn as well; what lies in the directories counts.
"""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

from penchant.platform.store import file_digest, write_json

__all__ = ["KEPT", "drop_torn_list", "last_checkpoint", "seal", "sound_and_torn"]

#: Checkpoints that a training keeps: where the last one is not whole, it goes on from the other.
KEPT = 2

_SEAL = "seal.json"
_LIST = "checkpoint_manager_snapshot.json"  # Ray Train's


def seal(checkpoint: Path) -> None:
    """Write down what the files of a checkpoint are; nothing may change in it afterwards."""
    files = sorted(file for file in checkpoint.rglob("*") if file.is_file())
    digests = {file.relative_to(checkpoint).as_posix(): file_digest(file) for file in files}
    write_json(checkpoint / _SEAL, digests)


def sound_and_torn(place: Path) -> tuple[Path | None, list[Path]]:
    """The last checkpoint of a Ray Train run that is whole, and those after it, which are not.

    Args:
        place: directory of the run.
    """
    torn = list[Path]()
    for checkpoint in sorted(place.glob("checkpoint_*/"), reverse=True):  # named by their time
        if _is_whole(checkpoint):
            return checkpoint, torn
        torn.append(checkpoint)
    return None, torn


def last_checkpoint(place: Path) -> tuple[Path | None, int]:
    """The checkpoint to go on from, and how many later ones are not whole.

    All workers of the run call it, and are told what the first one has found.

    Args:
        place: directory of the run, which all workers see.
    """
    import ray.train
    from ray.train.collective import broadcast_from_rank_zero

    told = None
    if ray.train.get_context().get_world_rank() == 0:
        found, torn = sound_and_torn(place)
        told = (None if found is None else found.name, len(torn))
    name, passed = broadcast_from_rank_zero(told)
    return (None if name is None else place / name), passed


def drop_torn_list(place: Path) -> None:
    """Remove Ray Train's list of checkpoints where Ray would refuse to go on for it.

    It cannot be read, is another Ray's, or names what is gone.
    """
    path = place / _LIST
    if not path.exists():
        return
    try:
        told = json.loads(path.read_text())
        names = [one["checkpoint_dir_name"] for one in told["checkpoint_results"]]
        ours = told["ray_version"] == metadata.version("ray")
        sound = ours and all((place / name).is_dir() for name in names)
    except (OSError, ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        path.unlink()


def _is_whole(checkpoint: Path) -> bool:
    try:
        digests = json.loads((checkpoint / _SEAL).read_text())
        return all(file_digest(checkpoint / name) == told for name, told in digests.items())
    except (OSError, ValueError, AttributeError):
        return False
