"""New versions of a running service: deployed beside the old one, then given traffic.

A version is a Serve application of its own. It takes traffic only when all its replicas have
started and passed their self-tests; the version before it stays up, so that a rollback is a change
of one file.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import httpx

from penchant.platform.cluster import environment, start_ray
from penchant.platform.errors import ConfigError, RunError, UnreachableError
from penchant.serve.answering.places import Layout
from penchant.serve.versions.service import Endpoint, Live, Service, Traffic

if TYPE_CHECKING:
    from ray.serve.schema import ServeStatus

    from penchant.serve.versions.app import VersionArgs

__all__ = ["DEFAULT", "deploy", "rollback", "start_version", "why_not"]

Part = Literal["primary", "canary", "shadow"]

_SWITCH_S = 30.0
DEFAULT = Layout()


def deploy(
    service: Service,
    directory: Path,
    *,
    part: Part = "primary",
    share: float = 0.0,
    layout: Layout = DEFAULT,
) -> Traffic:
    """Start a version and let it take its part; returns what is live then.

    Args:
        service: a service that runs.
        directory: the ensemble's artefact.
        part: of all requests, of a share of the users, or of copies alone.
        share: of the users, for a canary.
        layout: how its members run.

    Raises:
        ConfigError: no service runs there.
        RunError: the version does not start or fails its self-test; the old one serves on.
    """
    endpoint = service.endpoint()
    with _attached(endpoint):
        before = service.traffic()
        if before is None:
            raise ConfigError(f"{service.directory} has no live version: start it again.")
        live = start_version(_args(endpoint, directory, layout))
        after = _with(before, live, part, share)
        service.switch(after, f"deploy {part}")
        _wait_until(endpoint, after.primary.version)
        _drop(before, after)
    return after


def rollback(service: Service) -> Traffic:
    """Go back: end a canary or shadow, or else return to the version before.

    Raises:
        ConfigError: no service runs there, or it has nothing to go back to.
    """
    endpoint = service.endpoint()
    before = service.traffic()
    if before is None:
        raise ConfigError(f"{service.directory} has no live version: nothing can be rolled back.")
    with _attached(endpoint):
        if before.canary is not None or before.shadow is not None:
            after = Traffic(primary=before.primary, previous=before.previous)
        elif before.previous is not None:
            after = Traffic(primary=before.previous, previous=before.primary)
        else:
            raise ConfigError(
                f"{service.directory} serves {before.primary.version}, its first version: there "
                "is nothing to go back to."
            )
        service.switch(after, "rollback")
        _wait_until(endpoint, after.primary.version)
        _drop(before, after)
    return after


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
        serve.delete(live.app, _blocking=False)
        raise RunError(f"the ensemble in {args.directory} does not start: {why}") from error
    return live


def why_not(status: ServeStatus, name: str) -> str:
    """The last line of what each deployment that failed has said."""
    app = status.applications.get(name)
    messages = [] if app is None else [d.message for d in app.deployments.values() if d.message]
    return "; ".join(message.strip().splitlines()[-1] for message in messages) or "no reason given"


def _with(before: Traffic, live: Live, part: Part, share: float) -> Traffic:
    if part == "canary":
        return before.model_copy(update={"canary": live, "canary_share": share})
    if part == "shadow":
        return before.model_copy(update={"shadow": live})
    previous = before.previous if live.version == before.primary.version else before.primary
    return Traffic(primary=live, previous=previous)


def _drop(before: Traffic, after: Traffic) -> None:
    """Delete versions that nothing needs any more; what they answer is finished first."""
    from ray import serve

    kept = {live.version for live in after.lives()}
    for live in before.lives():
        if live.version not in kept:
            serve.delete(live.app)


def _args(endpoint: Endpoint, directory: Path, layout: Layout) -> VersionArgs:
    from penchant.serve.versions.app import VersionArgs

    return VersionArgs(
        directory=str(directory.resolve()),
        layout=layout,
        cpus_per_replica=endpoint.cpus_per_replica,
        max_replicas=endpoint.max_replicas,
    )


def _wait_until(endpoint: Endpoint, version: str) -> None:
    """Return when the front sends requests to this version."""
    until = time.monotonic() + _SWITCH_S
    while time.monotonic() < until:
        try:
            answer = httpx.get(f"{endpoint.url}/readyz", timeout=5)
            if answer.status_code == 200 and answer.json()["version"] == version:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise RunError(
        f"the front at {endpoint.url} has not taken over version {version} within {_SWITCH_S:.0f} "
        "s: look at its log, and at traffic.json of the service directory."
    )


@contextmanager
def _attached(endpoint: Endpoint) -> Iterator[None]:
    # A private Ray takes none but those who can read its token, which lies in the user's home; Ray
    # reads the mode once, when it is imported.
    mode = {"RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token")}
    try:
        with environment(mode), start_ray(address=endpoint.ray_address):
            yield
    except UnreachableError as error:
        raise UnreachableError(
            f"the service at {endpoint.url} (process {endpoint.pid}) is gone: start it again with "
            "`penchant serve run`."
        ) from error
