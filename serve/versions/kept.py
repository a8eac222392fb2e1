"""Artefacts of the versions that run, kept in the service directory as they were when deployed.

A replica may start at any time: for one that died, for more load, in another version's stead. What
it loads must be what its version was, whatever has become of the directory that was deployed:
`penchant ensemble compare` makes that anew under the same name, and people copy over it or tidy up.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from penchant.ensembles.artefacts.artefact import read_ensemble_card
from penchant.platform.errors import DataError
from penchant.platform.swap import lock_directory, swap_in, workspace
from penchant.serve.answering.card import version_of
from penchant.serve.versions.service import Service, Traffic

__all__ = ["forget_others", "keep"]


def keep(service: Service, directory: Path) -> Path:
    """Where the service has a copy of an artefact, in a directory named by its version.

    Args:
        service: the service directory.
        directory: the artefact; one that is kept already is where it should be.

    Raises:
        DataError: it is not whole, or made anew at this very moment.
        OSError: it cannot be copied.
    """
    directory = directory.resolve()
    if directory.parent == service.versions:
        return directory
    files = [*read_ensemble_card(directory)["sha256"], "ensemble.json"]
    version = version_of(directory)
    place = service.versions / version
    if _is_whole(place, version):
        return place
    with workspace(place) as work:
        new = work / "new"
        for name in files:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(directory / name, new / name)
        if not _is_whole(new, version):
            raise DataError(f"{directory} is made anew at this moment: deploy it when it is whole.")
        swap_in(new, place, work)
    return place


def forget_others(service: Service, traffic: Traffic) -> None:
    """Remove what no version needs any more; the directories that were deployed stay."""
    kept = {live.version for live in traffic.lives()}
    for place in service.versions.glob("*"):
        if place.name in kept:
            continue
        lock = lock_directory(place)
        if lock is not None:  # or it is being copied
            shutil.rmtree(place, ignore_errors=True)
            os.close(lock)


def _is_whole(place: Path, version: str) -> bool:
    try:
        read_ensemble_card(place)
    except DataError:
        return False
    return version_of(place) == version
