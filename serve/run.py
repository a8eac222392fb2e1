"""Serving on this machine: a private Ray, Serve on it, the application of one ensemble."""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from penchant.platform.cluster import Cluster, environment, start_ray
from penchant.platform.ensemble_settings import SINGLE
from penchant.platform.errors import ConfigError, RunError, UnreachableError
from penchant.serve.answering.places import Placement
from penchant.serve.gate.proxy import SERVE_VARIABLES, serve_variables
from penchant.serve.routes.examples import keep_examples
from penchant.serve.users.users import check_url, open_users
from penchant.serve.versions.choice import artefact_to_start, layout_for, source_of
from penchant.serve.versions.fronts import FRONT
from penchant.serve.versions.kept import forget_others, keep
from penchant.serve.versions.service import Endpoint, Service, Traffic
from penchant.serve.versions.start import start_version, why_not
from penchant.trainers.text.engine import EngineName

if TYPE_CHECKING:
    from penchant.serve.versions.app import FrontArgs, VersionArgs

__all__ = ["find_ensemble", "free_port", "serving", "wait_for_stop"]

logger = logging.getLogger(__name__)

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
    name = report["recommended"] if report["recommended"] in made else SINGLE
    directory = place / "ensembles" / name
    if not (directory / "ensemble.json").is_file():
        raise ConfigError(
            f"{path} recommends {report['recommended']}, but {directory} holds no ensemble.json. "
            f"Save it again with `penchant ensemble compare {place}`."
        )
    return directory


@contextmanager
def serving(
    directory: Path | None,
    service: Service,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    placement: Placement | None = None,
    engine: EngineName | None = None,
    users: str | None = None,
    examples: Path | None = None,
    replace: bool = False,
) -> Iterator[str]:
    """Serve an ensemble for the length of a `with`; yields its address.

    Args:
        directory: the artefact, or None for the one that was live last.
        service: keeps keys, users, feedback and predictions.
        host: where to listen; others than loopback addresses need API keys.
        port: where to listen.
        placement: which members share a process; by default as when it was live last, or else
            as is measured.
        engine: runs members with a language model; by default likewise.
        users: URL of the Redis that keeps events of users; by default the service directory does.
        examples: a run whose test requests the console shows.
        replace: whatever was live last.

    Raises:
        ConfigError: the host is open to others and there are no keys, another process serves
            from this service directory, another version was live there last, Serve is set to
            listen elsewhere, or the URL is of no Redis.
        UnreachableError: the port is taken, or that Redis does not answer.
        DataError: the artefact is not whole, or the user store is none.
        RunError: a member does not start.
    """
    from penchant.ensembles.artefacts.artefact import read_ensemble_card
    from penchant.serve.versions.app import FrontArgs, VersionArgs

    guarded = service.has_keys()
    _check_host(host, service, guarded=guarded)
    _check_listeners()
    _check_port(host, port)
    if users is not None:
        check_url(users)
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    with service.alone():
        store = users or str(service.users)
        open_users(store).close()  # fronts start without it, and only log why
        last = None if replace else service.traffic()
        chosen = artefact_to_start(service, last, directory)
        members = len(read_ensemble_card(chosen)["weights"])
        kept = keep(service, chosen)
        layout = layout_for(last, kept.name, placement, engine)
        if examples is not None:
            keep_examples(service, examples)
        variables = serve_variables(service.directory if guarded else None)
        with environment(variables), start_ray(address="local") as cluster:
            share, replicas = _size(members + 1, cluster)
            try:
                version = VersionArgs(
                    directory=str(kept),
                    version=kept.name,
                    source=source_of(service, last, chosen),
                    layout=layout,
                    cpus_per_replica=share,
                    max_replicas=replicas,
                )
                front = FrontArgs(
                    service=str(service.directory),
                    cpus_per_replica=share,
                    max_replicas=replicas,
                    guarded=guarded,
                    users=store,
                )
                _start(service, host, port, version, front)
                service.announce(
                    Endpoint(
                        url=url,
                        ray_address=_ray_address(),
                        pid=os.getpid(),
                        cpus_per_replica=share,
                        max_replicas=replicas,
                    )
                )
                yield url
            finally:
                service.retire()
                _stop()


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


def _size(deployments: int, cluster: Cluster) -> tuple[float, int]:
    """CPUs to set aside for each replica, and how many replicas a deployment may have.

    Room for two versions side by side; and under load as many replicas as there are CPUs, since
    more of them would start, on a machine that is busy, only to take turns.
    """
    share = cluster.cpus / (4 * deployments)
    replicas = max(cluster.cpus // deployments, 1)
    return max(min(_CPUS_PER_REPLICA, int(1000 * share) / 1000), 0.001), replicas


def _start(service: Service, host: str, port: int, version: VersionArgs, front: FrontArgs) -> None:
    from ray import serve
    from ray.serve.config import ProxyLocation

    from penchant.serve.versions.app import build_front

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        proxy_location=ProxyLocation.HeadOnly,
        http_options={"host": host, "port": port},
        # Its lines would hold request ids as clients send them, of any length.
        logging_config={"enable_access_log": False},
    )
    traffic = Traffic(primary=start_version(version))
    service.switch(traffic, "start")
    forget_others(service, traffic)
    try:
        serve.run(build_front(front), name=FRONT, route_prefix="/")
    except RuntimeError as error:
        why = why_not(serve.status(), FRONT)
        raise RunError(f"the front of {service.directory} does not start: {why}") from error


def _stop() -> None:
    """Let everything finish what it is answering: the front first, then the members.

    Where Ray's own store of state is gone, or has come back as another cluster's, there is nobody
    to ask; Ray is stopped after this all the same.
    """
    from ray import serve
    from ray.exceptions import RayError

    try:
        running = serve.status().applications
        for name in sorted(running, key=lambda name: name != FRONT):
            serve.delete(name)
    except RayError as error:
        logger.warning("the service ends at once: Ray does not answer (%s)", type(error).__name__)


def _ray_address() -> str:
    import ray

    address: str = ray.get_runtime_context().gcs_address
    return address


def _check_host(host: str, service: Service, *, guarded: bool) -> None:
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
        known = True
    except ValueError:
        loopback = known = False
    if not known:
        raise ConfigError(
            f"--host is {host!r}, expected an IP address to listen on, such as 127.0.0.1."
        )
    if not loopback and not guarded:
        raise ConfigError(
            f"--host is {host!r}, which others can reach, and {service.directory} has no API "
            "keys, so anybody could ask. Expected a loopback address such as 127.0.0.1, or a key: "
            f"`penchant serve key add NAME --service {service.directory}`."
        )


def _check_listeners() -> None:
    for name in ("RAY_SERVE_ENABLE_HA_PROXY", "RAY_SERVE_ENABLE_DIRECT_INGRESS"):
        value = os.environ.get(name, "0")
        if value != SERVE_VARIABLES[name]:
            raise ConfigError(
                f"{name} is {value!r} in the environment, expected it to be unset: Ray Serve would "
                "listen on other addresses than --host, and past admission. Unset it."
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
