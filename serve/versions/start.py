"""Starts the members of a version, and says why where they do not start."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from penchant.platform.errors import RunError
from penchant.serve.versions.service import Live

if TYPE_CHECKING:
    from ray.serve.schema import ServeStatus

    from penchant.serve.versions.app import VersionArgs

__all__ = ["start_version", "why_not"]

_LOOK_S = 0.2
#: Serve says after half a minute that a replica finds no CPUs, and would wait without end.
_CROWDED = "to be scheduled"
#: So much longer may others take to end, such as replicas of a deployment that scales down.
_CROWDED_S = 30.0
_FAILED = ("DEPLOY_FAILED", "DELETING")


def start_version(args: VersionArgs) -> Live:
    """Start the members of an ensemble and wait until every replica has passed its self-test.

    Raises:
        DataError: the artefact is not whole.
        RunError: a replica does not start, or finds no room beside the versions that run.
    """
    from ray import serve

    from penchant.serve.versions.app import build_version, live_of

    live = live_of(args)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    running = serve.status().applications.get(live.app)
    if running is not None and running.status == "RUNNING":
        return live  # it stayed up for a rollback, or has been the canary
    target = serve.RunTarget(build_version(args), name=live.app, route_prefix=None)
    try:
        serve.run_many([target], wait_for_applications_running=False)
        _await_running(live.app)
    except RuntimeError as error:
        why = why_not(serve.status(), live.app)
        if running is None:  # or it may be live, and only in a bad moment
            serve.delete(live.app, _blocking=False)
        raise RunError(f"the ensemble in {args.source} does not start: {why}") from error
    return live


def _await_running(app: str) -> None:
    """Wait for all replicas of an application.

    Raises:
        RuntimeError: one does not start, or finds no CPUs.
    """
    from ray import serve

    crowded_s: float | None = None
    while True:
        found = serve.status().applications.get(app)
        if found is None or found.status in _FAILED:
            raise RuntimeError(f"{app} is {'gone' if found is None else found.status}")
        if found.status == "RUNNING":
            return
        if not any(_CROWDED in deployment.message for deployment in found.deployments.values()):
            crowded_s = None
        elif crowded_s is None:
            crowded_s = time.monotonic()
        elif time.monotonic() - crowded_s > _CROWDED_S:
            raise RuntimeError(f"{app} finds no room")
        time.sleep(_LOOK_S)


def why_not(status: ServeStatus, name: str) -> str:
    """The last line of what each deployment that failed has said."""
    app = status.applications.get(name)
    messages = [] if app is None else [d.message for d in app.deployments.values() if d.message]
    if any(_CROWDED in message for message in messages):
        return (
            "its replicas find no CPUs beside the versions that run. End a canary or shadow with "
            "`penchant serve rollback`, or serve on a machine with more CPUs"
        )
    return "; ".join(message.strip().splitlines()[-1] for message in messages) or "no reason given"
