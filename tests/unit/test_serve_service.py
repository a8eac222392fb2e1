"""The service directory: what is live is whole or not there, and every switch is noted."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from penchant.platform.errors import ConfigError, DataError
from penchant.serve.answering.places import Layout, Place
from penchant.serve.versions.service import Endpoint, Live, Service, Traffic


def live(version: str) -> Live:
    places = [Place(name="members", members=["own"], alone=True)]
    return Live(
        version=version, directory="somewhere", source="somewhere", layout=Layout(), places=places
    )


def test_what_is_live_comes_back_and_every_switch_is_noted(tmp_path: Path) -> None:
    service = Service(tmp_path / "new")
    assert (service.traffic(), service.history()) == (None, [])
    service.switch(Traffic(primary=live("a")), "start")
    both = Traffic(primary=live("b"), canary=live("c"), canary_share=0.1, previous=live("a"))
    service.switch(both, "deploy canary")
    assert service.traffic() == both
    assert [(n["action"], n["primary"]) for n in service.history()] == [
        ("start", "a-auto-auto"),
        ("deploy canary", "b-auto-auto"),
    ]
    assert [one.version for one in both.lives()] == ["b", "c", "a"]


def test_a_version_with_two_parts_runs_once() -> None:
    assert [one.version for one in Traffic(primary=live("a"), canary=live("a")).lives()] == ["a"]


def test_a_file_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.traffic_file.write_text('{"primary": 1}')
    with pytest.raises(DataError, match=r"not as Penchant writes it"):
        service.traffic()


def test_a_service_that_does_not_run_is_said_to(tmp_path: Path) -> None:
    service = Service(tmp_path)
    with pytest.raises(ConfigError, match="no running service"):
        service.endpoint()
    endpoint = Endpoint(
        url="http://127.0.0.1:1", ray_address="x:1", pid=1, cpus_per_replica=0.1, max_replicas=2
    )
    service.announce(endpoint)
    service.switch(Traffic(primary=live("a")), "start")
    assert service.endpoint() == endpoint
    assert service.serves(endpoint)
    assert not service.serves(endpoint.model_copy(update={"pid": 2}))  # another start's
    service.retire()
    with pytest.raises(ConfigError, match="no running service"):
        service.endpoint()
    assert not service.serves(endpoint)


def test_what_was_live_last_stays_known_when_a_service_stops(tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.switch(Traffic(primary=live("a")), "start")
    service.retire()
    assert service.traffic() == Traffic(primary=live("a"))
    assert len(service.history()) == 1


def test_a_service_whose_process_has_died_does_not_serve(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    endpoint = Endpoint(
        url="http://x", ray_address="x", pid=dead.pid, cpus_per_replica=0.1, max_replicas=2
    )
    service = Service(tmp_path)
    service.announce(endpoint)
    assert not service.serves(endpoint)


def test_every_switch_tells_layouts_of_one_version_apart(tmp_path: Path) -> None:
    service = Service(tmp_path)
    quick = live("a").model_copy(update={"layout": Layout(engine="onnx-int8")})
    service.switch(Traffic(primary=quick, previous=live("a")), "deploy primary")
    (step,) = service.history()
    assert (step["primary"], step["previous"]) == ("a-auto-onnx-int8", "a-auto-auto")


HOLD = """
import sys, time
from pathlib import Path
from penchant.serve.versions.service import Service
with Service(Path(sys.argv[1])).alone():
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_process_serves_a_directory_and_its_crash_lets_go(tmp_path: Path) -> None:
    service = Service(tmp_path / "new")
    command = [sys.executable, "-c", HOLD, str(service.directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="is served by another process"), service.alone():
            pass
        other.kill()
        other.wait()
    with service.alone(), pytest.raises(ConfigError, match="another process"), service.alone():
        pass
    with service.alone(), service.changing():
        pass


def test_who_asks_for_a_service_that_is_starting_waits_for_it(tmp_path: Path) -> None:
    """It answers a moment before it says where it is: a script may have seen /readyz by then."""
    service = Service(tmp_path)
    endpoint = Endpoint(
        url="http://127.0.0.1:1", ray_address="x:1", pid=1, cpus_per_replica=0.1, max_replicas=2
    )
    with service.alone():
        threading.Timer(0.3, service.announce, [endpoint]).start()
        assert Service(tmp_path).endpoint(patience_s=5) == endpoint
        service.retire()
        with pytest.raises(ConfigError, match="no running service"):
            Service(tmp_path).endpoint(patience_s=0.2)
    began = time.monotonic()
    with pytest.raises(ConfigError, match="no running service"):
        service.endpoint(patience_s=5)
    assert time.monotonic() - began < 1  # nobody is about to
