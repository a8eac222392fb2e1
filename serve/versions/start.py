"""Starts the members of a version, and says why where they do not start."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from penchant.platform.errors import RunError
from penchant.serve.versions.service import Live

if TYPE_CHECKING:
    from ray.serve.schema import ServeStatus

    from penchant.serve.versions.app import VersionArgs

__all__ = ["start_version", "why_not"]


def start_version(args: VersionArgs) -> Live:
    """Start the members of an ensemble and wait until every replica has passed its self-test.

    Raises:
        DataError: the artefact is not whole.
        RunError: a replica does not start.
    """
    from ray import serve

    from penchant.serve.versions.app import build_version, live_of

    live = live_of(args)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    running = serve.status().applications.get(live.app)
    if running is not None and running.status == "RUNNING":
        return live  # it stayed up for a rollback, or has been the canary
    try:
        serve.run(build_version(args), name=live.app, route_prefix=None)
    except RuntimeError as error:
        why = why_not(serve.status(), live.app)
        if running is None:  # or it may be live, and only in a bad moment
            serve.delete(live.app, _blocking=False)
        raise RunError(f"the ensemble in {args.source} does not start: {why}") from error
    return live


def why_not(status: ServeStatus, name: str) -> str:
    """The last line of what each deployment that failed has said."""
    app = status.applications.get(name)
    messages = [] if app is None else [d.message for d in app.deployments.values() if d.message]
    return "; ".join(message.strip().splitlines()[-1] for message in messages) or "no reason given"
