"""The way to a cluster's dashboard, where jobs are submitted; says in seconds what is wrong."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import ray
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from penchant.platform.cluster import environment
from penchant.platform.errors import ConfigError, UnreachableError

__all__ = ["REACH_S", "RefusedError", "connect", "explain_failures"]

#: Seconds that a dashboard has to answer; Ray itself would wait without limit.
REACH_S = 5.0

# Loggers that announce every upload.
_TALKERS = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)


class RefusedError(UnreachableError):
    """The dashboard answered, and said no."""


def connect(address: str) -> JobSubmissionClient:
    """A client of the dashboard at an address.

    Args:
        address: such as `http://head:8265`.

    Raises:
        ConfigError: this is no dashboard's address.
        UnreachableError: no dashboard answers, it wants a token, or its Ray is of another version.
    """
    _require_dashboard(address)
    for name in _TALKERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Ray lets this variable, and RAY_ADDRESS, win over the address that it is given.
    with explain_failures(address), environment({"RAY_API_SERVER_ADDRESS": address}):
        client = JobSubmissionClient(address)
    theirs = (
        client._server_ray_version or ""
    )  # the client asks for it, but offers no way to read it
    if theirs.split(".")[:2] != ray.__version__.split(".")[:2]:
        raise UnreachableError(
            f"{address} runs Ray {theirs}, expected {ray.__version__} as installed here. Start the "
            "cluster from an image with Penchant's dependencies (see cluster.yaml)."
        )
    return client


@contextmanager
def explain_failures(address: str) -> Iterator[None]:
    """Say what a failed call of the client means.

    Raises:
        UnreachableError: the dashboard is gone or does not accept our token.
        RefusedError: it answered, and said no.
    """
    try:
        yield
    except AuthenticationError as error:
        raise UnreachableError(_token_advice(address)) from error
    except OSError as error:  # Python's own connection errors and those of requests
        raise UnreachableError(f"{address} stopped answering: {error}") from error
    except RuntimeError as error:
        raise RefusedError(f"{address} refused: {error}") from error


def _require_dashboard(address: str) -> None:
    if not address.startswith(("http://", "https://")):
        raise ConfigError(
            f"The cluster's address is {address!r}, expected that of its dashboard, such as "
            "http://head:8265 (`ray dashboard cluster.yaml` forwards it to this machine)."
        )
    try:
        answer = httpx.get(f"{address}/api/authentication_mode", timeout=REACH_S)
        mode: Any = answer.raise_for_status().json()["authentication_mode"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise UnreachableError(
            f"No Ray dashboard answers at {address} ({error or type(error).__name__}). Check "
            "--address; for a cluster of `ray up`, `ray dashboard cluster.yaml` forwards it to "
            "http://127.0.0.1:8265."
        ) from error
    if mode == "token" and os.environ.get("RAY_AUTH_MODE") != "token":
        raise UnreachableError(_token_advice(address))


def _token_advice(address: str) -> str:
    return (
        f"{address} asks for Ray's token and got none, or another one. Set RAY_AUTH_MODE=token, "
        "and RAY_AUTH_TOKEN_PATH to a file that holds the head's token "
        "(`ray get-auth-token` prints it there)."
    )
