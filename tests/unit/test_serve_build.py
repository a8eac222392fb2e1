"""A service as a file: Serve accepts it, and it names what is there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import ray
from pydantic import BaseModel, ValidationError
from ray.serve.schema import ServeDeploySchema
from ruamel.yaml import YAML
from typer.testing import CliRunner

from penchant.cli.serve import app
from penchant.ensembles.artefacts.artefact import save_ensemble
from penchant.ensembles.combinations.linear import Linear
from penchant.platform.errors import ConfigError
from penchant.serve.answering.card import version_of
from penchant.serve.answering.places import Layout
from penchant.serve.gate.keys import KeyRing
from penchant.serve.gate.proxy import KEYS_OF, serve_variables
from penchant.serve.run import free_port
from penchant.serve.versions.app import (
    FrontArgs,
    VersionArgs,
    build_front,
    build_version,
    live_of,
)
from penchant.serve.versions.build import ray_service, serve_config
from penchant.serve.versions.service import Service, Traffic

from .test_serve_law import RANKING, fitted_run

_HELD = ("directory", "version", "source")  # what a version needs


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ("popular", "own")
    prepared = fitted_run(
        tmp_path_factory.mktemp("built"), "baskets", {name: RANKING[name] for name in names}
    )
    weights = dict.fromkeys(names, 0.5)
    spec = prepared.experiment.requests
    return save_ensemble(
        prepared.run, "two", Linear(normalization="zscore", weights=weights), spec, {}
    )


def test_without_keys_nothing_is_built(artefact: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="penchant serve key add"):
        serve_config(artefact, Service(tmp_path))


def test_for_a_directory_that_is_served_nothing_is_built(artefact: Path, tmp_path: Path) -> None:
    service = Service(tmp_path)
    KeyRing(service.directory).add("shop")
    with service.alone(), pytest.raises(ConfigError, match="is served by another process"):
        serve_config(artefact, service)
    assert service.traffic() is None


def test_a_directory_that_a_cluster_may_follow_is_not_given_another_version(
    artefact: Path, tmp_path: Path
) -> None:
    service = Service(tmp_path)
    KeyRing(service.directory).add("shop")
    serve_config(artefact, service)
    built = service.traffic()
    assert built is not None
    serve_config(artefact, service)  # once more the same
    with pytest.raises(ConfigError, match=f"expected a service directory.*{built.primary.version}"):
        serve_config(artefact, service, layout=Layout(placement="apart"))
    other = built.primary.model_copy(update={"version": "other"})
    service.switch(Traffic(primary=other), "build")
    with pytest.raises(ConfigError, match="is of version other-auto-auto, expected"):
        serve_config(artefact, service)
    assert service.traffic() == Traffic(primary=other)


def test_serve_takes_the_configuration_and_the_builders_its_arguments(
    artefact: Path, tmp_path: Path
) -> None:
    service = Service(tmp_path / "service")
    KeyRing(service.directory).add("shop")
    config = serve_config(artefact, service, layout=Layout(placement="apart"))
    version, front = ServeDeploySchema.model_validate(config).applications
    live = service.traffic()
    assert live is not None
    assert version.name == live.primary.app
    made = build_version(VersionArgs.model_validate(version.args))
    names = {place.name for place in live.primary.places}
    beside = {one._bound_deployment.name for one in made._bound_deployment.init_args[-1]}
    assert {made._bound_deployment.name} | beside == names
    assert len(names) == 2
    assert FrontArgs.model_validate(front.args).guarded
    assert build_front(FrontArgs.model_validate(front.args))._bound_deployment.name == "front"


@pytest.mark.parametrize(
    ("args", "threads"),
    [
        ({}, 1),
        ({"cpus_per_replica": 1.0}, 1),
        ({"cpus_per_replica": 4}, 4),
        ({"cpus_per_replica": 2.5}, 2),
        ({"cpus_per_replica": 4, "threads": 1}, 1),
        ({"threads": 3}, 3),
    ],
)
def test_replicas_compute_on_the_cpus_that_are_set_aside_for_them(
    artefact: Path, args: dict[str, float], threads: int
) -> None:
    held = {"directory": str(artefact), "version": version_of(artefact), "source": str(artefact)}
    asked = {**held, "layout": {"placement": "apart"}, **args}
    made = build_version(VersionArgs.model_validate(asked))
    (beside,) = made._bound_deployment.init_args[-1]
    bound = [made._bound_deployment, beside._bound_deployment]
    assert [one.init_args[3] for one in bound] == [threads, threads]


@pytest.mark.parametrize("cpus", [0.1, 2.0])
@pytest.mark.parametrize("most", [2, 3, 8, 40])
def test_two_fronts_with_all_their_calls_bring_all_replicas_and_a_single_caller_brings_none(
    artefact: Path, cpus: float, most: int
) -> None:
    held = {"directory": str(artefact), "version": version_of(artefact), "source": str(artefact)}
    asked = {"layout": {"placement": "apart"}, "cpus_per_replica": cpus, "max_replicas": most}
    args = VersionArgs.model_validate(held | asked)
    scaled = build_version(args)._bound_deployment._deployment_config.autoscaling_config

    def steps(calls: float) -> list[int]:
        """Replicas, once those are there that Serve starts: a share of what calls want more."""
        found = [scaled.min_replicas]
        while len(found) < 20:
            wanted = calls / scaled.target_ongoing_requests - found[-1]
            more = math.ceil(scaled.get_upscaling_factor() * max(wanted, 0))
            found.append(min(found[-1] + more, scaled.max_replicas))
        return found

    place = live_of(args).places[0]
    busy = steps(2 * place.calls)
    assert busy[0] == 1
    assert busy[-1] == most
    assert busy[1] == (most if cpus >= 1 else min(1 + math.ceil(most / 2), most))  # half of them
    assert steps(1.8)[-1] == 1


def test_fronts_on_several_machines_share_the_redis_that_was_chosen(
    artefact: Path, tmp_path: Path
) -> None:
    """It need not run where the file is written."""
    service = Service(tmp_path / "service")
    KeyRing(service.directory).add("shop")
    url = "redis://shop-redis:6379/0"
    for users in (url, None):
        config = serve_config(artefact, service, users=users)
        front = ServeDeploySchema.model_validate(config).applications[1]
        assert FrontArgs.model_validate(front.args).users == users
        built = build_front(FrontArgs.model_validate(front.args))
        assert built._bound_deployment.init_args[-1] == users
    with pytest.raises(ConfigError, match="expected a Redis"):
        serve_config(artefact, service, users="users.sqlite")
    with pytest.raises(ConfigError, match="PENCHANT_REDIS_PASSWORD"):
        serve_config(artefact, service, users="redis://:secret@shop-redis:6379/0")


@pytest.mark.parametrize(
    ("kind", "args", "said"),
    [
        (FrontArgs, {"users": "redis://:secret@shop:6379/0"}, "PENCHANT_REDIS_PASSWORD"),
        (FrontArgs, {"users": "http://shop"}, "expected a Redis"),
        (FrontArgs, {"max_replica": 2}, "Extra inputs are not permitted"),
        (FrontArgs, {"min_replicas": 0}, "greater than or equal to 1"),
        (FrontArgs, {"cpus_per_replica": -1}, "greater than 0"),
        (VersionArgs, {"max_replica": 2}, "Extra inputs are not permitted"),
        (VersionArgs, {"max_replicas": 0}, "greater than or equal to 1"),
        (VersionArgs, {"threads": 0}, "greater than or equal to 1"),
        (VersionArgs, {"cpus_per_replica": -0.1}, "greater than 0"),
        (VersionArgs, {"layout": {"placement": "near"}}, "Input should be"),
    ],
)
def test_what_is_wrong_in_a_file_that_was_edited_is_told_and_no_secret_in_it(
    kind: type[BaseModel], args: dict[str, Any], said: str
) -> None:
    """Serve passes these on; keys of its own that it does not know, it drops."""
    needed = {"service": "s"} if kind is FrontArgs else dict.fromkeys(_HELD, "x")
    kind.model_validate(needed)
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(needed | args)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("users", [None, "redis://shop-redis:6379/0"])
def test_events_of_users_that_no_front_would_forget_are_refused(
    artefact: Path, tmp_path: Path, users: str | None
) -> None:
    service = Service(tmp_path / "service")
    KeyRing(service.directory).add("shop")
    service.users.touch()  # `penchant serve run` has kept some here
    with pytest.raises(ConfigError, match="holds events of users"):
        serve_config(artefact, service, users=users)
    assert service.traffic() is None


def test_the_verbs_take_the_redis(artefact: Path, tmp_path: Path) -> None:
    service = Service(tmp_path / "service")
    KeyRing(service.directory).add("shop")
    where = [str(artefact), "--service", str(service.directory), "--users"]
    out, runner = tmp_path / "service.yaml", CliRunner()
    built = runner.invoke(app, ["build", *where, "redis://shop:6379", "--out", str(out)])
    assert built.exit_code == 0, built.output
    front = YAML(typ="safe").load(out)["applications"][1]
    assert front["args"]["users"] == "redis://shop:6379"
    given = runner.invoke(app, ["run", *where, "redis//shop", "--port", str(free_port())])
    assert isinstance(given.exception, ConfigError)
    assert "expected a Redis" in str(given.exception)


def test_a_ray_service_holds_the_same_configuration(artefact: Path, tmp_path: Path) -> None:
    service = Service(tmp_path / "service")
    KeyRing(service.directory).add("shop")
    config = serve_config(artefact, service)
    made = ray_service(config, image="shop:1", claim="models", mount="/models")
    assert YAML(typ="safe").load(made["spec"]["serveConfigV2"]) == config
    cluster = made["spec"]["rayClusterConfig"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert (
        cluster["rayVersion"] == ray.__version__
    )  # KubeRay wants to know it where there are tokens
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for pod in pods:
        (container,) = pod["template"]["spec"]["containers"]
        assert container["image"] == "shop:1"
        given = {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}
        secret = {"name": "penchant-redis", "key": "password", "optional": True}
        assert given.pop("PENCHANT_REDIS_PASSWORD") == {"secretKeyRef": secret}
        assert given == serve_variables(service.directory)
        assert given[KEYS_OF] == str(service.directory)
        assert container["volumeMounts"] == [{"name": "penchant", "mountPath": "/models"}]
