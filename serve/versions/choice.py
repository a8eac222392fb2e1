"""What a verb runs where a service has run something before: which artefact, in which layout.

Whatever was not asked for stays as it was: another version, or other engine, is never a surprise.
"""

from __future__ import annotations

import logging
from pathlib import Path

from penchant.platform.errors import ConfigError, DataError
from penchant.serve.answering.card import version_of
from penchant.serve.answering.places import Layout, Placement
from penchant.serve.versions.service import Live, Service, Traffic
from penchant.trainers.text.engine import EngineName

__all__ = ["artefact_to_start", "layout_for", "source_of"]

logger = logging.getLogger(__name__)


def layout_for(
    traffic: Traffic | None, version: str, placement: Placement | None, engine: EngineName | None
) -> Layout:
    """The layout that is asked for; what is not is as the version runs already.

    Args:
        traffic: what is live. A canary or shadow of the version lends its layout before others:
            to deploy it again is to promote it.
        version: to be run.
        placement: None where nobody asked for one.
        engine: None where nobody asked for one.
    """
    lives = () if traffic is None else (traffic.canary, traffic.shadow, *traffic.lives())
    same = (live.layout for live in lives if live is not None and live.version == version)
    lent = next(same, Layout())
    return Layout(placement=placement or lent.placement, engine=engine or lent.engine)


def artefact_to_start(service: Service, last: Traffic | None, directory: Path | None) -> Path:
    """The artefact that a service starts with.

    Args:
        service: the service directory.
        last: what was live there last, if that counts.
        directory: the artefact that is named, or None for the one that was live last.

    Raises:
        ConfigError: another version was live last, or none is named and none was.
        DataError: the one that was live last is gone, or another one by now.
    """
    if last is None:
        if directory is None:
            raise ConfigError(
                f"nothing was live in {service.directory} before: expected a RUN_DIR to serve."
            )
        return directory
    live = last.primary
    chosen = _kept(service, live) if directory is None else directory
    version = version_of(chosen) if (chosen / "ensemble.json").is_file() else "none"
    if directory is None and version != live.version:
        raise DataError(
            f"{chosen} holds version {version} by now, expected {live.version}, which was live in "
            f"{service.directory} last. Name a RUN_DIR to serve what that holds."
        )
    if version != live.version and chosen.resolve() != Path(live.source):
        raise ConfigError(
            f"{chosen} is version {version}, expected {live.version} ({live.source}), which was "
            f"live in {service.directory} last. Leave RUN_DIR out to go on with that one, or give "
            "--replace to serve the one that you have named instead."
        )
    for role in ("canary", "shadow"):
        if (other := getattr(last, role)) is not None:
            logger.warning(
                "the %s of %s, version %s, does not come back by itself: deploy it again",
                role,
                service.directory,
                other.version,
            )
    return chosen


def source_of(service: Service, last: Traffic | None, chosen: Path) -> str:
    """The directory that people know an artefact by: of a kept one, what it was kept of."""
    if last is not None and chosen == _kept(service, last.primary):
        return last.primary.source
    return str(chosen.resolve())


def _kept(service: Service, live: Live) -> Path:
    """Where a version's artefact is, in a service directory that may have been moved."""
    kept = service.versions / live.version
    return kept if kept.is_dir() else Path(live.directory)
