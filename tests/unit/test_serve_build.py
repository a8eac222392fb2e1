"""A service as a file: Serve accepts it, and it names what is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.serve.schema import ServeDeploySchema
from ruamel.yaml import YAML

from penchant.ensembles.artefacts.artefact import save_ensemble
from penchant.ensembles.combinations.linear import Linear
from penchant.platform.errors import ConfigError
from penchant.serve.answering.places import Layout
from penchant.serve.gate.keys import KeyRing
from penchant.serve.versions.app import FrontArgs, VersionArgs, build_front, build_version
from penchant.serve.versions.build import ray_service, serve_config
from penchant.serve.versions.service import Service

from .test_serve_law import RANKING, fitted_run


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


def test_a_ray_service_holds_the_same_configuration(artefact: Path, tmp_path: Path) -> None:
    service = Service(tmp_path / "service")
    KeyRing(service.directory).add("shop")
    config = serve_config(artefact, service)
    made = ray_service(config, image="shop:1", claim="models", mount="/models")
    assert YAML(typ="safe").load(made["spec"]["serveConfigV2"]) == config
    cluster = made["spec"]["rayClusterConfig"]
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for pod in pods:
        (container,) = pod["template"]["spec"]["containers"]
        assert container["image"] == "shop:1"
        assert container["volumeMounts"] == [{"name": "penchant", "mountPath": "/models"}]
