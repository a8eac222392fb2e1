"""Opens a version that runs: its artefact on the disk, and the way to its members."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ray import serve

from penchant.ensembles.artefacts.artefact import Ensemble, load_ensemble
from penchant.platform.errors import DataError
from penchant.platform.events import read_log_card
from penchant.serve.answering.card import open_desk, version_of
from penchant.serve.answering.desk import Desk
from penchant.serve.answering.history import trial_question
from penchant.serve.answering.reach import Reach
from penchant.serve.versions.service import Live

__all__ = ["artefact_of", "open_live"]


async def open_live(live: Live) -> Desk:
    """A desk whose members were asked once.

    Raises:
        DataError: the artefact is gone, or another one than members were started from.
        KeyError: Serve knows no such application yet.
    """
    desk = await asyncio.to_thread(_desk, live)
    await desk.greet()
    return desk


def artefact_of(live: Live) -> Ensemble:
    """The artefact of a version, without its members.

    Raises:
        DataError: it is gone, or another one than members were started from.
    """
    directory = Path(live.directory)
    ensemble = load_ensemble(directory, [])
    found = version_of(directory)
    if found != live.version:
        raise DataError(
            f"{directory} holds version {found} by now, expected {live.version}, whose members "
            f"run. Put back what it held, or deploy {live.source} again."
        )
    return ensemble


def _desk(live: Live) -> Desk:
    """Blocks while files are read and while Serve's controller is asked."""
    ensemble, directory = artefact_of(live), Path(live.directory)
    groups = read_log_card(directory)["has_groups"]
    trial = trial_question(ensemble.requests, 0, has_groups=groups)
    handles = {
        place.name: serve.get_deployment_handle(place.name, live.app) for place in live.places
    }
    desk = open_desk(directory, Reach(live.name, live.places, handles, trial))
    desk.panel.rehearse(trial)  # here, since the event loop answers others meanwhile
    return desk
