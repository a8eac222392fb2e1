"""The Serve applications: one of each version's members, and the front that answers HTTP.

Import paths for Serve's own tools: `penchant.serve.versions.app:build_version` and `:build_front`.
"""

# No `from __future__ import annotations`: Serve reads the types of the builders at run time.

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator
from ray import serve
from ray.serve.config import AutoscalingConfig, BackpressureConfig
from ray.serve.deployment import Application, Deployment

from penchant.ensembles.artefacts.artefact import read_ensemble_card
from penchant.platform.errors import ConfigError
from penchant.serve.answering.member_deployment import MAX_BATCH, MemberReplica
from penchant.serve.answering.places import Layout, Place, measured_ms, place_members
from penchant.serve.answering.priority import behind_the_proxy
from penchant.serve.front import Front
from penchant.serve.gate.gate import MAX_BODY_BYTES
from penchant.serve.users.users import check_url
from penchant.serve.versions.fronts import FRONT
from penchant.serve.versions.service import Live

__all__ = ["FrontArgs", "VersionArgs", "build_front", "build_version", "live_of"]

#: Requests that a replica may have. Admission refuses long before: a router that finds all replicas
#: full backs off for half a second at a time, while they fall idle (docs/lab-notes.md).
_MOST = 1000

#: Calls that a replica of members should have under way. A call carries what has gathered, so that
#: their number says how busy a replica is more than how many ask: one is worked on, another waits.
#: (Serve counts up to 1.8 for a single caller who asks again at once: that is no load to start
#: replicas for.) A front has one more of them at most than replicas may run (`Place.calls`), so
#: that two fronts can ask for all of them.
_CALLS = 2.0


class VersionArgs(BaseModel):
    """Which ensemble, and how large."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    directory: str = Field(description="The ensemble's artefact, on a disk that all nodes see.")
    version: str = Field(description="What it must hold whenever a replica starts.")
    source: str = Field(description="The directory that it was kept of.")
    layout: Layout = Layout()
    cpus_per_replica: float = Field(
        default=0.1, gt=0, description="CPUs that Ray sets aside for each replica."
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        description="CPUs that a replica computes on; by default those set aside, one at least.",
    )
    max_replicas: int = Field(default=2, ge=1, description="Of each deployment, under load.")


class FrontArgs(BaseModel):
    """What is the same for all versions."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    service: str = Field(description="The service directory, on a disk that all nodes see.")
    cpus_per_replica: float = Field(default=0.1, gt=0)
    min_replicas: int = Field(default=2, ge=1, description="With two, one may die unnoticed.")
    max_replicas: int = Field(default=2, ge=1)
    max_body_bytes: int = Field(
        default=MAX_BODY_BYTES,
        ge=1_000,
        le=MAX_BODY_BYTES,
        description="Of a request; the proxy takes no more.",
    )
    guarded: bool = Field(default=True, description="Ask for API keys.")
    users: str | None = Field(
        default=None,
        description="Keeps events of users: redis://..., or an SQLite file where all fronts stand "
        "on one machine; without it, nothing is kept.",
    )

    @field_validator("users")
    @classmethod
    def _no_password(cls, users: str | None) -> str | None:
        """A file that was edited by hand may hold one, and is read by many."""
        if users is not None and "://" in users:
            try:
                check_url(users)
            except ConfigError as error:  # pydantic tells of a ValueError where it stands
                raise ValueError(str(error)) from None
        return users


def live_of(args: VersionArgs) -> Live:
    """A version as `traffic.json` names it.

    Raises:
        DataError: the directory holds no whole artefact.
    """
    return Live(
        version=args.version,
        directory=args.directory,
        source=args.source,
        layout=args.layout,
        places=_places_of(args),
    )


def _places_of(args: VersionArgs) -> list[Place]:
    """Where the members of a version live.

    Raises:
        DataError: the directory holds no whole artefact.
    """
    card = read_ensemble_card(Path(args.directory))
    members = list(card["weights"])
    cost_ms = measured_ms(Path(args.directory), members)
    return place_members(cost_ms, args.layout.placement, args.max_replicas)


def build_version(args: VersionArgs) -> Application:
    """The members of an ensemble. It has no route: the front asks them.

    Raises:
        DataError: the directory holds no whole artefact.
    """
    root, *others = _places_of(args)
    beside = [_bound(place, args, []) for place in others]
    return _bound(root, args, beside)


def _bound(place: Place, args: VersionArgs, beside: list[Application]) -> Application:
    made = _deployment(
        MemberReplica,
        place.name,
        cpus=args.cpus_per_replica,
        replicas=(place.replicas, max(place.max_replicas, place.replicas)),
        target=_CALLS,
    )
    threads = args.threads or max(1, int(args.cpus_per_replica))
    return made.bind(
        args.directory, args.version, place.members, threads, args.layout.engine, beside
    )


def build_front(args: FrontArgs) -> Application:
    """What answers HTTP, whichever versions are live."""
    made = _deployment(
        serve.ingress()(Front),
        FRONT,
        cpus=args.cpus_per_replica,
        replicas=(args.min_replicas, max(args.min_replicas, args.max_replicas)),
        target=2 * MAX_BATCH,
    )
    return made.bind(args.service, args.max_body_bytes, args.guarded, args.users)


def _deployment(
    what: type, name: str, *, cpus: float, replicas: tuple[int, int], target: float
) -> Deployment:
    """Ray's defaults do not scale, queue without limit and take minutes to miss a dead replica.

    Admission keeps short what waits, by time and not by number: a request that waits longer than
    its deadline is work for nothing.
    """
    made = serve.deployment(
        name=name,
        ray_actor_options={"num_cpus": cpus, "runtime_env": behind_the_proxy()},
        autoscaling_config=AutoscalingConfig(
            min_replicas=replicas[0],
            max_replicas=replicas[1],
            target_ongoing_requests=target,
            # A replica takes seconds to start: a step of load is to be seen in three, where noise
            # costs a replica for two minutes. Serve says that variables will tell the interval in
            # a later release; in this one they tell nothing.
            metrics_interval_s=1.0,
            look_back_period_s=5.0,
            upscale_delay_s=1.0,
            # Replicas without a CPU of their own share what there is while they start, and all are
            # late: half of what is missing comes first.
            upscaling_factor=1.0 if cpus >= 1 else 0.5,
            downscale_delay_s=120.0,
        ),
        max_ongoing_requests=_MOST,
        max_queued_requests=_MOST,
        backpressure_config=BackpressureConfig(status_code=503, retry_after_s=1),
        health_check_period_s=2.0,
        health_check_timeout_s=5.0,
        graceful_shutdown_wait_loop_s=0.2,
        graceful_shutdown_timeout_s=15.0,  # more than the longest deadline
        max_constructor_retry_count=2,
        max_surge_percent=100,
        rolling_update_percentage=1.0,
    )
    return made(what)
