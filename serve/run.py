"""Serving on this machine: a private Ray, Serve on it, the application of one ensemble."""

from __future__ import annotations

import ipaddress
import json
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from penchant.platform.cluster import Cluster, start_ray
from penchant.platform.errors import ConfigError, RunError, UnreachableError

if TYPE_CHECKING:
    from ray.serve.schema import ServeStatus

    from penchant.serve.app import ServeArgs

__all__ = ["APP", "find_ensemble", "free_port", "serving", "wait_for_stop"]

#: Name of the Serve application.
APP = "penchant"

#: Artefact of the best single member, which `report.json` names by the member's own id.
_SINGLE = "single"

_CPUS_PER_REPLICA = 0.1


def find_ensemble(place: Path) -> Path:
    """The artefact to serve: the directory itself, or the one that a run's report recommends.

    Raises:
        ConfigError: this is neither an ensemble nor a run that was compared.
    """
    if (place / "ensemble.json").is_file():
        return place
    path = place / "report" / "report.json"
    if not path.is_file():
        raise ConfigError(
            f"{place} holds no ensemble: expected a run directory with report/report.json, or an "
            "ensemble directory with ensemble.json. Make one with `penchant run EXPERIMENT.yaml`."
        )
    report = json.loads(path.read_text())
    made = {ensemble["name"] for ensemble in report["ensembles"]}
    name = report["recommended"] if report["recommended"] in made else _SINGLE
    directory = place / "ensembles" / name
    if not (directory / "ensemble.json").is_file():
        raise ConfigError(
            f"{path} recommends {report['recommended']}, but {directory} holds no ensemble.json. "
            f"Save it again with `penchant ensemble compare {place}`."
        )
    return directory


@contextmanager
def serving(directory: Path, *, host: str = "127.0.0.1", port: int = 8000) -> Iterator[str]:
    """Serve an ensemble for the length of a `with`; yields its address.

    Args:
        directory: the artefact.
        host: a loopback address.
        port: where to listen.

    Raises:
        ConfigError: the host is open to others.
        UnreachableError: the port is taken.
        DataError: the artefact is not whole.
        RunError: a member does not start.
    """
    from penchant.ensembles.artefact import read_ensemble_card

    _check_host(host)
    _check_port(host, port)
    members = len(read_ensemble_card(directory)["weights"])
    with start_ray(address="local") as cluster:
        from ray import serve

        _start(_sized(directory, members + 1, cluster), host, port)
        try:
            yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
        finally:
            serve.delete(APP)  # what is being answered is finished first


def wait_for_stop() -> None:
    """Return at Ctrl-C or SIGTERM."""
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, on_signal) for number in signals}
    try:
        while not stop.wait(1.0):  # in steps: a wait without end would hold signals back
            pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def free_port(host: str = "127.0.0.1") -> int:
    """A port on which nothing listens at the moment."""
    with socket.create_server((host, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _sized(directory: Path, deployments: int, cluster: Cluster) -> ServeArgs:
    """As many replicas under load as there are CPUs, and room for an update to roll out."""
    from penchant.serve.app import ServeArgs

    share = cluster.cpus / (2 * deployments)  # old and new replicas stand side by side
    return ServeArgs(
        directory=str(directory.resolve()),
        cpus_per_replica=max(min(_CPUS_PER_REPLICA, int(1000 * share) / 1000), 0.001),
        max_replicas=cluster.cpus,
    )


def _start(args: ServeArgs, host: str, port: int) -> None:
    from ray import serve
    from ray.serve.config import ProxyLocation

    from penchant.serve.app import build

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        proxy_location=ProxyLocation.HeadOnly,
        http_options={"host": host, "port": port},
        # Its lines would hold request ids as clients send them, of any length.
        logging_config={"enable_access_log": False},
    )
    try:
        serve.run(build(args), name=APP, route_prefix="/")
    except RuntimeError as error:
        why = _why(serve.status())
        raise RunError(f"the ensemble in {args.directory} does not start: {why}") from error


def _why(status: ServeStatus) -> str:
    """The last line of what each deployment that failed has said."""
    app = status.applications.get(APP)
    messages = [] if app is None else [d.message for d in app.deployments.values() if d.message]
    return "; ".join(message.strip().splitlines()[-1] for message in messages) or "no reason given"


def _check_host(host: str) -> None:
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError(
            f"--host is {host!r}, expected a loopback address such as 127.0.0.1: the endpoint has "
            "no API keys yet, so anybody who reaches it could ask it. Put a proxy that asks for "
            "keys in front of it."
        )


def _check_port(host: str, port: int) -> None:
    """Serve itself would share the port with another Serve, and answer every second request."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UnreachableError(
                f"port {port} on {host} cannot be used ({error.strerror}): expected a free one. "
                "Choose another with --port, or stop what listens there."
            ) from error
