"""A service as a file, for a cluster: Ray Serve's configuration, or KubeRay's RayService.

    serve deploy service.yaml              # a cluster that runs
    kubectl apply -f rayservice.yaml       # Kubernetes with KubeRay

`penchant serve deploy`, `rollback` and `status` speak to a service of `penchant serve run` alone:
what runs on a cluster is what its file says, and a version added by a verb would be gone when the
cluster starts again. Another version there is another file, with a service directory of its own.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from penchant.platform.errors import ConfigError
from penchant.serve.answering.places import Layout
from penchant.serve.gate.proxy import serve_variables
from penchant.serve.users.redis_users import PASSWORD_VARIABLE
from penchant.serve.users.users import check_url
from penchant.serve.versions.app import FrontArgs, VersionArgs, live_of
from penchant.serve.versions.kept import keep
from penchant.serve.versions.service import Service, Traffic

__all__ = ["ray_service", "serve_config"]

_LAYOUT = Layout()
_PASSWORD = {"name": "penchant-redis", "key": "password", "optional": True}
_CPUS_PER_REPLICA = 1.0
_MAX_REPLICAS = 8


def serve_config(
    directory: Path,
    service: Service,
    *,
    host: str = "0.0.0.0",
    port: int = 8000,
    layout: Layout = _LAYOUT,
    max_replicas: int = _MAX_REPLICAS,
    users: str | None = None,
) -> dict[str, Any]:
    """Ray Serve's configuration of a service; its first `traffic.json` is written too.

    Args:
        directory: the artefact.
        service: the service directory, at a path that all nodes see, with API keys in it; it keeps
            the artefact as it is now.
        host: where the proxies listen.
        port: where the proxies listen.
        layout: how its members run.
        max_replicas: of each deployment, under load.
        users: URL of the Redis that keeps events of users; without it, nothing does: a file cannot
            be shared by fronts of several machines.

    Raises:
        ConfigError: there are no API keys, the URL is of no Redis or holds a password, or the
            service directory is served, of another version or layout, or has events of users.
        DataError: the artefact is not whole.
    """
    if not service.has_keys():
        raise ConfigError(
            f"{service.directory} has no keys.json: a cluster's endpoint can be reached by others. "
            f"Make a key with `penchant serve key add NAME --service {service.directory}`."
        )
    if users is not None:
        check_url(users)
    front = FrontArgs(
        service=str(service.directory),
        cpus_per_replica=_CPUS_PER_REPLICA,
        max_replicas=max_replicas,
        guarded=True,
        users=users,
    )
    if service.users.exists():
        raise ConfigError(
            f"{service.users} holds events of users, which fronts on a cluster would neither read "
            "nor forget: expected none. Name another directory with --service, or remove the file."
        )
    with service.alone():
        kept = keep(service, directory)
        version = VersionArgs(
            directory=str(kept),
            version=kept.name,
            source=str(directory.resolve()),
            layout=layout,
            cpus_per_replica=_CPUS_PER_REPLICA,
            max_replicas=max_replicas,
        )
        live = live_of(version)
        last = service.traffic()
        if last is not None and last.primary.app != live.app:
            raise ConfigError(
                f"{service.directory} is of version {last.primary.name}, expected a service "
                f"directory of its own for version {live.name}: fronts of a cluster that runs "
                "would follow the file. Name another with --service, or remove "
                f"{service.traffic_file} if nothing serves from there."
            )
        service.switch(Traffic(primary=live), "build")
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": host, "port": port},
        "logging_config": {"enable_access_log": False},
        "applications": [
            {
                "name": live.app,
                "route_prefix": None,
                "import_path": "penchant.serve.versions.app:build_version",
                "args": version.model_dump(mode="json"),
            },
            {
                "name": "front",
                "route_prefix": "/",
                "import_path": "penchant.serve.versions.app:build_front",
                "args": front.model_dump(mode="json"),
            },
        ],
    }


def ray_service(config: dict[str, Any], *, image: str, claim: str, mount: str) -> dict[str, Any]:
    """KubeRay's RayService for a configuration; it needs KubeRay 1.5.1, the first with tokens.

    Args:
        config: of `serve_config`.
        image: has Penchant installed.
        claim: persistent volume claim (ReadWriteMany) that holds the artefacts and the service.
        mount: where it is mounted, so that the configuration's paths exist.

    The password of a Redis is read from the secret `penchant-redis`, key `password`, if it exists.
    """
    from io import StringIO

    from ruamel.yaml import YAML

    text = StringIO()
    YAML(typ="safe").dump(config, text)
    keys_of = Path(config["applications"][-1]["args"]["service"])
    variables: list[dict[str, Any]] = [
        *({"name": n, "value": value} for n, value in serve_variables(keys_of).items()),
        # A Redis without a password needs no such secret.
        {"name": PASSWORD_VARIABLE, "valueFrom": {"secretKeyRef": _PASSWORD}},
    ]
    head = _pod("head", image, claim, mount, variables, cpu="2", memory="8Gi")
    worker = _pod("worker", image, claim, mount, variables, cpu="4", memory="16Gi")
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "penchant"},
        "spec": {
            "serveConfigV2": text.getvalue(),
            "rayClusterConfig": {
                # Whoever reaches a Ray without a token runs code on it.
                "rayVersion": metadata.version("ray"),
                "authOptions": {"mode": "token"},
                "enableInTreeAutoscaling": True,
                # The head only steers: what computes stands on workers, which may be replaced.
                "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": head},
                "workerGroupSpecs": [
                    {
                        "groupName": "members",
                        "replicas": 1,
                        "minReplicas": 1,
                        "maxReplicas": 10,
                        "rayStartParams": {},
                        "template": worker,
                    }
                ],
            },
        },
    }


def _pod(
    name: str,
    image: str,
    claim: str,
    mount: str,
    variables: list[dict[str, Any]],
    *,
    cpu: str,
    memory: str,
) -> dict[str, Any]:
    size = {"cpu": cpu, "memory": memory}
    return {
        "spec": {
            "containers": [
                {
                    "name": f"ray-{name}",
                    "image": image,
                    "env": variables,
                    "resources": {"requests": size, "limits": size},
                    "volumeMounts": [{"name": "penchant", "mountPath": mount}],
                }
            ],
            "volumes": [{"name": "penchant", "persistentVolumeClaim": {"claimName": claim}}],
        }
    }
