"""New versions of a running service: deployed beside the old one, then given traffic.

A version is a Serve application of its own. It takes traffic only when all its replicas have
started and passed their self-tests; the version before it stays up, so that a rollback is a change
of one file. A version that nothing needs any more ends when no front sends to it, and what it was
asked is answered.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from penchant.platform.cluster import environment, start_ray
from penchant.platform.errors import ConfigError, DataError, RunError, UnreachableError
from penchant.serve.answering.places import Layout
from penchant.serve.versions.fronts import await_fronts
from penchant.serve.versions.service import Endpoint, Live, Service, Traffic

if TYPE_CHECKING:
    from ray.serve.schema import ServeStatus

    from penchant.serve.versions.app import VersionArgs

__all__ = ["DEFAULT", "deploy", "rollback", "start_version", "why_not"]

Part = Literal["primary", "canary", "shadow"]

#: Fronts have this long to follow: one that stands still is replaced within.
_SWITCH_S = 60.0

#: After that, the last requests by the traffic before may still ask: the longest deadline, and 1 s.
_LAST_ANSWER_S = 11.0
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
        ConfigError: no service runs there, or another verb is changing it.
        RunError: the version does not start, fails its self-test, or a front cannot open it; the
            old one serves on.
    """
    endpoint = service.endpoint()
    with service.changing(), _attached(endpoint):
        before = service.traffic()
        if before is None:
            raise ConfigError(f"{service.directory} has no live version: start it again.")
        live = start_version(_args(endpoint, directory, layout))
        after = _with(before, live, part, share)
        _go_over(service, before, after, live, f"deploy {part}")
    return after


def rollback(service: Service) -> Traffic:
    """Go back: end a canary or shadow, or else return to the version before.

    Raises:
        ConfigError: no service runs there, another verb is changing it, or it has nothing to go
            back to.
        DataError: the version before cannot be opened any more.
        RunError: it does not run any more, or a front cannot open it; nothing changes.
    """
    endpoint = service.endpoint()
    with service.changing(), _attached(endpoint):
        before = service.traffic()
        if before is None:
            raise ConfigError(
                f"{service.directory} has no live version: nothing can be rolled back."
            )
        after = _back(service, before)
        _go_over(service, before, after, after.primary, "rollback")
    return after


def _back(service: Service, before: Traffic) -> Traffic:
    if before.canary is not None or before.shadow is not None:
        return Traffic(primary=before.primary, previous=before.previous)
    if before.previous is None:
        raise ConfigError(
            f"{service.directory} serves {before.primary.version}, its first version: there is "
            "nothing to go back to."
        )
    _check_ready(before.previous)
    return Traffic(primary=before.previous, previous=before.primary)


def _check_ready(live: Live) -> None:
    """Fronts that have it open still could go back, and one that starts tomorrow could not.

    Raises:
        DataError: the artefact is gone, or another one.
        RunError: its members do not run.
    """
    from ray import serve

    from penchant.serve.versions.opening import artefact_of

    try:
        artefact_of(live)
    except DataError as error:
        raise DataError(
            f"version {live.version} cannot be returned to, and nothing changes: {error}"
        ) from error
    app = serve.status().applications.get(live.app)
    if app is None or app.status != "RUNNING":
        raise RunError(
            f"version {live.version} cannot be returned to, and nothing changes: its members are "
            f"{'gone' if app is None else app.status}, expected RUNNING. Deploy {live.directory} "
            "again."
        )


def _go_over(service: Service, before: Traffic, after: Traffic, live: Live, action: str) -> None:
    """Let the fronts follow, and end what nothing needs any more; or change nothing.

    Raises:
        RunError: a front does not send requests by this traffic, or has not opened this version.
    """
    service.switch(after, action)
    why = await_fronts(after, live, within_s=_SWITCH_S)
    if why is None:
        _end(before, after)
        return
    service.switch(before, f"{action}, taken back")
    if await_fronts(before, before.primary, within_s=_SWITCH_S) is None:
        _end(after, before)
    raise RunError(
        f"version {live.version} is not taken over by all fronts within {_SWITCH_S:.0f} s ({why}): "
        f"what was live before is live again. Look at the log of the fronts, and whether they can "
        f"read {live.directory}."
    )


def _end(before: Traffic, after: Traffic) -> None:
    """Delete what no front sends new requests to, when those under way have been answered.

    A request is given to a version once, and asks its members then: within its deadline, after the
    front that it came to may long follow another traffic.
    """
    from ray import serve

    kept = {live.app for live in after.lives()}
    gone = [live.app for live in before.lives() if live.app not in kept]
    if gone:
        time.sleep(_LAST_ANSWER_S)
    for app in gone:
        serve.delete(app)


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
    previous = before.previous if live.app == before.primary.app else before.primary
    return Traffic(primary=live, previous=previous)


def _args(endpoint: Endpoint, directory: Path, layout: Layout) -> VersionArgs:
    from penchant.serve.versions.app import VersionArgs

    return VersionArgs(
        directory=str(directory.resolve()),
        layout=layout,
        cpus_per_replica=endpoint.cpus_per_replica,
        max_replicas=endpoint.max_replicas,
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
