"""The Serve application of an ensemble: an ingress, and a deployment for each member.

Import path for Serve's own tools: `penchant.serve.app:build`.
"""

# No `from __future__ import annotations`: Serve reads the type of build's argument at run time.

import asyncio
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve.config import AutoscalingConfig, BackpressureConfig
from ray.serve.deployment import Application, Deployment
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from penchant.ensembles.artefact import read_ensemble_card
from penchant.serve.card import open_desk
from penchant.serve.history import Question
from penchant.serve.ingress import make_app
from penchant.serve.member_deployment import MAX_BATCH, MemberReplica
from penchant.serve.panel import OverloadedError

__all__ = ["Ingress", "ServeArgs", "build"]

#: Requests that a replica works on at a time: a batch, and the one that gathers meanwhile.
_ONGOING = 2 * MAX_BATCH


class ServeArgs(BaseModel):
    """What to serve, and how large."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    directory: str = Field(description="The ensemble's artefact, on a disk that all nodes see.")
    cpus_per_replica: float = Field(
        default=0.1, gt=0, description="CPUs that Ray sets aside for each replica."
    )
    max_replicas: int = Field(default=2, ge=1, description="Of each deployment, under load.")
    max_body_bytes: int = Field(default=1_000_000, ge=1_000, description="Of a request.")


def build(args: ServeArgs) -> Application:
    """The application of an ensemble.

    Raises:
        DataError: the directory holds no whole artefact.
    """
    card = read_ensemble_card(Path(args.directory))
    members = {
        name: _deployment(MemberReplica, f"member-{name}", args).bind(
            args.directory, name, max(1, int(args.cpus_per_replica))
        )
        for name in card["weights"]
    }
    front = _deployment(serve.ingress()(Ingress), "ingress", args)
    return front.bind(args.directory, args.max_body_bytes, members)


def _deployment(what: type, name: str, args: ServeArgs) -> Deployment:
    """Ray's defaults do not scale, queue without limit and take minutes to miss a dead replica.

    What waits is kept short: a request that waits longer than its deadline is work for nothing.
    """
    made = serve.deployment(
        name=name,
        ray_actor_options={"num_cpus": args.cpus_per_replica},
        autoscaling_config=AutoscalingConfig(
            min_replicas=1,
            max_replicas=args.max_replicas,
            target_ongoing_requests=_ONGOING / 8,
            upscale_delay_s=5.0,
            downscale_delay_s=120.0,
        ),
        max_ongoing_requests=_ONGOING,
        max_queued_requests=_ONGOING,
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


class Ingress:
    """The HTTP application in a replica, with the handles of its members.

    Args:
        directory: the ensemble's artefact.
        max_body_bytes: larger requests are refused.
        members: handle of each member's deployment.
    """

    def __init__(
        self,
        directory: str,
        max_body_bytes: int,
        members: Mapping[str, DeploymentHandle[NDArray[np.float32] | None]],
    ) -> None:
        self._desk = open_desk(Path(directory), self._ask)
        self._members, self._max_body_bytes = members, max_body_bytes

    def __serve_build_asgi_app__(self) -> FastAPI:
        return make_app(self._desk, max_body_bytes=self._max_body_bytes)

    async def _ask(self, member_id: str, question: Question) -> NDArray[np.float32] | None:
        response = self._members[member_id].score.remote(question)
        try:
            scores: NDArray[np.float32] | None = await response
        except asyncio.CancelledError:
            response.cancel()  # type: ignore[no-untyped-call]  # Ray's lack
            raise
        except BackPressureError:
            raise OverloadedError from None
        return scores
