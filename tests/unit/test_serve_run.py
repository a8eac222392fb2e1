"""What is served where: decided, or refused, before anything is started."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from ray import serve
from ray.exceptions import RayError
from typer.testing import CliRunner

from penchant.cli.serve import app
from penchant.ensembles.artefacts import artefact
from penchant.platform.errors import ConfigError, DataError, UnreachableError
from penchant.serve import run as run_module
from penchant.serve.answering.card import version_of
from penchant.serve.answering.places import Layout
from penchant.serve.gate.keys import KeyRing
from penchant.serve.run import find_ensemble, free_port, serving, wait_for_stop
from penchant.serve.versions.service import Endpoint, Live, Service, Traffic


def make_run(root: Path, recommended: str, *ensembles: str) -> Path:
    report = {"recommended": recommended, "ensembles": [{"name": name} for name in ensembles]}
    (root / "report").mkdir(parents=True)
    (root / "report" / "report.json").write_text(json.dumps(report))
    for name in (*ensembles, "single"):
        (root / "ensembles" / name).mkdir(parents=True)
        (root / "ensembles" / name / "ensemble.json").write_text("{}")
    return root


def test_the_recommended_ensemble_of_a_run_is_served(tmp_path: Path) -> None:
    run = make_run(tmp_path, "greedy", "mean", "greedy")
    assert find_ensemble(run) == run / "ensembles" / "greedy"


def test_a_recommended_member_is_served_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path, "boosted-all-3a05bb", "mean", "greedy")
    assert find_ensemble(run) == run / "ensembles" / "single"


def test_an_ensemble_directory_is_served_as_it_is(tmp_path: Path) -> None:
    mean = make_run(tmp_path, "greedy", "mean", "greedy") / "ensembles" / "mean"
    assert find_ensemble(mean) == mean


def test_what_was_not_compared_or_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no ensemble"):
        find_ensemble(tmp_path)
    run = make_run(tmp_path, "greedy", "greedy")
    (run / "ensembles" / "greedy" / "ensemble.json").unlink()
    with pytest.raises(ConfigError, match="penchant ensemble compare"):
        find_ensemble(run)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_hosts_that_others_reach_are_refused_without_keys(tmp_path: Path, host: str) -> None:
    service = Service(tmp_path / "service")
    refused = pytest.raises(ConfigError, match="penchant serve key add")
    with refused, serving(tmp_path, service, host=host):
        pass
    KeyRing(service.directory).add("shop")
    passed = pytest.raises((DataError, UnreachableError))  # it goes on to the next check
    with passed, serving(tmp_path, service, host=host):
        pass


@pytest.mark.parametrize("host", ["example.org", "", "127.0.0.1:80"])
def test_hosts_that_are_no_addresses_are_refused(tmp_path: Path, host: str) -> None:
    refused = pytest.raises(ConfigError, match="expected an IP address")
    with refused, serving(tmp_path, Service(tmp_path), host=host):
        pass


@pytest.mark.parametrize("name", ["RAY_SERVE_ENABLE_HA_PROXY", "RAY_SERVE_ENABLE_DIRECT_INGRESS"])
def test_serve_is_not_let_listen_past_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    refused = pytest.raises(ConfigError, match=f"{name} is '1'.*expected it to be unset")
    with refused, serving(tmp_path, Service(tmp_path)):
        pass
    monkeypatch.setenv(name, "0")
    with pytest.raises(DataError), serving(tmp_path, Service(tmp_path), port=free_port()):
        pass


@pytest.mark.parametrize("users", ["users.sqlite", "postgres://host/0", "rediss:/host", ""])
def test_a_store_of_users_by_choice_is_a_redis(tmp_path: Path, users: str) -> None:
    refused = pytest.raises(ConfigError, match="expected a Redis, such as redis://")
    with refused, serving(tmp_path, Service(tmp_path), port=free_port(), users=users):
        pass


def test_a_redis_that_does_not_answer_is_told_before_anything_starts(tmp_path: Path) -> None:
    users = f"redis://127.0.0.1:{free_port()}/0"
    refused = pytest.raises(UnreachableError, match="in Redis does not answer")
    with refused, serving(tmp_path, Service(tmp_path), port=free_port(), users=users):
        pass


@pytest.mark.parametrize(
    "users",
    [
        "redis://:secret@127.0.0.1/0",
        "rediss://shop:secret@redis:6379",
        "unix://:secret@/run/redis",
        "redis://redis/0?password=secret",
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(tmp_path: Path, users: str) -> None:
    refused = pytest.raises(ConfigError, match="PENCHANT_REDIS_PASSWORD")
    with refused as caught, serving(tmp_path, Service(tmp_path), port=free_port(), users=users):
        pass
    assert "secret" not in str(caught.value)


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        taken = pytest.raises(UnreachableError, match=f"port {port} on 127.0.0.1 cannot be used")
        with taken, serving(tmp_path, Service(tmp_path), port=port):
            pass


def test_where_ray_is_another_cluster_by_now_the_end_is_told_and_no_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its store of state came back empty: it knows neither Serve nor what runs."""

    def lost() -> None:
        raise RayError("WrongClusterID")

    monkeypatch.setattr(serve, "status", lost)
    run_module._stop()
    assert "the service ends at once: Ray does not answer (RayError)" in caplog.text


def test_a_directory_without_an_artefact_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match="holds no ensemble"),
        serving(tmp_path, Service(tmp_path), port=free_port()),
    ):
        pass


def test_a_directory_that_is_served_is_refused_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artefact, "read_ensemble_card", lambda _: {"weights": {"own": 1.0}})
    service = Service(tmp_path)
    service.announce(
        Endpoint(url="http://x", ray_address="x", pid=1, cpus_per_replica=0.1, max_replicas=2)
    )
    before = sorted(path.name for path in tmp_path.iterdir())
    with service.alone():
        refused = pytest.raises(ConfigError, match="is served by another process")
        with refused, serving(tmp_path, service, port=free_port(), examples=tmp_path):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [*before, "serving.lock"]


def test_another_version_than_was_live_last_is_refused_before_anything_starts(
    tmp_path: Path,
) -> None:
    october, november = (make_run(tmp_path / name, "mean", "mean") for name in ("oct", "nov"))
    path = november / "ensembles" / "mean"
    (path / "ensemble.json").write_text('{"version": 0}')
    service = Service(tmp_path / "service")
    live = Live(
        version=version_of(path),
        directory=str(path),
        source=str(path),
        layout=Layout(),
        places=[],
    )
    service.switch(Traffic(primary=live), "deploy primary")
    service.retire()
    words = ["run", "--service", str(service.directory), "--port", str(free_port())]
    refused = CliRunner().invoke(app, [*words, str(october)])
    assert isinstance(refused.exception, ConfigError)
    assert "--replace" in str(refused.exception)
    for passed, version in (([str(october), "--replace"], None), ([str(november)], 0), ([], 0)):
        went_on = CliRunner().invoke(app, [*words, *passed])  # to what cannot be read
        assert isinstance(went_on.exception, DataError)
        assert f"has version {version}, expected" in str(went_on.exception)
    nothing = CliRunner().invoke(app, ["run", "--port", str(free_port())])
    assert isinstance(nothing.exception, ConfigError)
    assert "no RUN_DIR was given" in str(nothing.exception)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_and_handlers_come_back(number: signal.Signals) -> None:
    before: Any = signal.getsignal(number)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), number))
    timer.start()
    wait_for_stop()
    timer.join()
    assert signal.getsignal(number) is before
