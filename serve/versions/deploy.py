"""New versions of a running service: deployed beside the old one, then given traffic.

A version is a Serve application of its own. It takes traffic only when all its replicas have
started and passed their self-tests; the version before it stays up, so that a rollback is a change
of one file. A version that nothing needs any more ends when no front sends to it, and what it was
asked is answered.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from penchant.platform.cluster import environment, start_ray
from penchant.platform.errors import ConfigError, DataError, RunError, UnreachableError
from penchant.serve.answering.places import Placement
from penchant.serve.versions.choice import layout_for
from penchant.serve.versions.fronts import await_fronts
from penchant.serve.versions.kept import forget_others, keep
from penchant.serve.versions.service import (
    STARTS_S,
    VERSION_APP,
    Endpoint,
    Live,
    Service,
    Traffic,
)
from penchant.serve.versions.start import start_version
from penchant.trainers.text.engine import EngineName

if TYPE_CHECKING:
    from penchant.serve.versions.app import VersionArgs

__all__ = ["deploy", "rollback"]

Part = Literal["primary", "canary", "shadow"]

#: Fronts have this long to follow: one that stands still is replaced within.
_SWITCH_S = 60.0

#: After that, the last requests by the traffic before may still ask: the longest deadline, and 1 s.
_LAST_ANSWER_S = 11.0

#: Of an application that no rollback can return to. One that is UNHEALTHY has replicas too: Serve
#: says so while it replaces one.
_FAILED = ("NOT_STARTED", "DEPLOY_FAILED", "DELETING")


def deploy(
    service: Service,
    directory: Path,
    *,
    part: Part = "primary",
    share: float = 0.0,
    placement: Placement | None = None,
    engine: EngineName | None = None,
) -> Traffic:
    """Start a version and let it take its part; returns what is live then.

    Args:
        service: a service that runs.
        directory: the ensemble's artefact.
        part: of all requests, of a share of the users, or of copies alone.
        share: of the users, for a canary.
        placement: which members share a process; by default as the version runs already, a canary
            first, or else as is measured.
        engine: runs members with a language model; by default likewise.

    Raises:
        ConfigError: no service runs there, or another verb is changing it.
        DataError: the artefact is not whole.
        UnreachableError: the service has stopped, before or meanwhile.
        RunError: the version does not start, fails its self-test, or a front cannot open it; the
            old one serves on.
    """
    endpoint = service.endpoint(STARTS_S)
    with service.changing(), _attached(service, endpoint):
        before = service.traffic()
        if before is None:
            raise ConfigError(f"{service.directory} has no live version: start it again.")
        args = _args(service, endpoint, before, directory, placement, engine)
        live = start_version(args)
        after = _with(before, live, part, share)
        _go_over(service, endpoint, before, after, live, f"deploy {part}")
    return after


def rollback(service: Service) -> Traffic:
    """Go back: end a canary or shadow, or else return to the version before.

    Raises:
        ConfigError: no service runs there, another verb is changing it, or it has nothing to go
            back to.
        DataError: the version before cannot be opened any more.
        UnreachableError: the service has stopped, before or meanwhile.
        RunError: it does not run any more, or a front cannot open it; nothing changes.
    """
    endpoint = service.endpoint(STARTS_S)
    with service.changing(), _attached(service, endpoint):
        before = service.traffic()
        if before is None:
            raise ConfigError(
                f"{service.directory} has no live version: nothing can be rolled back."
            )
        after = _back(service, before)
        _go_over(service, endpoint, before, after, after.primary, "rollback")
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
    if app is None or app.status in _FAILED:
        raise RunError(
            f"version {live.version} cannot be returned to, and nothing changes: its members are "
            f"{'gone' if app is None else app.status}, expected some that run. Deploy "
            f"{live.source} again."
        )


def _go_over(
    service: Service, endpoint: Endpoint, before: Traffic, after: Traffic, live: Live, action: str
) -> None:
    """Let the fronts follow, and end what nothing needs any more; or change nothing.

    Raises:
        UnreachableError: the service has stopped meanwhile.
        RunError: a front does not send requests by this traffic, or has not opened this version.
    """
    taken_back = f"{action}, taken back"
    try:
        why = _follow(service, endpoint, after, live, action)
    except BaseException:  # Ctrl-C too
        if service.serves(endpoint):
            service.switch(before, taken_back)
        raise
    if why is None:
        _end_others(service, after)
        return
    lagging = _follow(service, endpoint, before, before.primary, taken_back)
    if lagging is None:
        _end_others(service, before)
    back = "is live again" if lagging is None else f"is asked for again, in vain so far: {lagging}"
    raise RunError(
        f"version {live.version} is not taken over by all fronts within {_SWITCH_S:.0f} s ({why}): "
        f"what was live before {back}. Look at the log of the fronts, and whether they can read "
        f"{live.directory}."
    )


def _follow(
    service: Service, endpoint: Endpoint, traffic: Traffic, opened: Live, action: str
) -> str | None:
    """Switch, and wait until all fronts follow; why not all do, if it is so.

    Raises:
        UnreachableError: the service has stopped.
    """
    runs = partial(service.serves, endpoint)
    why: str | None = "it has stopped"
    if runs():
        service.switch(traffic, action)
        why = await_fronts(traffic, opened, within_s=_SWITCH_S, runs=runs)
    if why is not None and not runs():
        raise UnreachableError(why)
    return why


def _end_others(service: Service, traffic: Traffic) -> None:
    """Delete what no front sends new requests to, when those under way have been answered.

    A request is given to a version once, and asks its members then: within its deadline, after the
    front that it came to may long follow another traffic. What a verb has left running that was
    interrupted is deleted too.
    """
    from ray import serve

    kept = {live.app for live in traffic.lives()}
    others = [
        name
        for name, app in serve.status().applications.items()
        if name.startswith(VERSION_APP) and name not in kept and app.status != "DELETING"
    ]
    if others:
        time.sleep(_LAST_ANSWER_S)
    for app in others:
        serve.delete(app)
    forget_others(service, traffic)


def _with(before: Traffic, live: Live, part: Part, share: float) -> Traffic:
    if part == "canary":
        return before.model_copy(update={"canary": live, "canary_share": share})
    if part == "shadow":
        return before.model_copy(update={"shadow": live})
    previous = before.previous if live.app == before.primary.app else before.primary
    return Traffic(primary=live, previous=previous)


def _args(
    service: Service,
    endpoint: Endpoint,
    before: Traffic,
    directory: Path,
    placement: Placement | None,
    engine: EngineName | None,
) -> VersionArgs:
    from penchant.serve.versions.app import VersionArgs

    kept = keep(service, directory)
    return VersionArgs(
        directory=str(kept),
        version=kept.name,
        source=str(directory.resolve()),
        layout=layout_for(before, kept.name, placement, engine),
        cpus_per_replica=endpoint.cpus_per_replica,
        max_replicas=endpoint.max_replicas,
    )


@contextmanager
def _attached(service: Service, endpoint: Endpoint) -> Iterator[None]:
    # A private Ray takes none but those who can read its token, which lies in the user's home; Ray
    # reads the mode once, when it is imported.
    mode = {"RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token")}
    try:
        with environment(mode), start_ray(address=endpoint.ray_address):
            yield
    except Exception as error:
        if service.serves(endpoint) and not isinstance(error, UnreachableError):
            raise
        last = service.traffic()
        raise UnreachableError(
            f"the service at {endpoint.url} (process {endpoint.pid}) is gone: expected one that "
            f"runs. `penchant serve run --service {service.directory}` starts it again, with "
            f"version {'that was live last' if last is None else last.primary.version}."
        ) from error
