"""Versions of a guarded service: rolled in, refused and rolled back while requests come in."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from penchant.ensembles.artefacts.self_test import SELF_TEST_FILE, SelfTest
from penchant.platform.events import EventLog
from penchant.serve.answering.card import version_of
from penchant.serve.run import free_port
from penchant.serve.versions.service import Service

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.alone]

PENCHANT = [sys.executable, "-W", "ignore", "-m", "penchant.cli.main"]
BODY = {"history": [{"item": "p1", "time": "2024-01-03"}], "k": 3}


def penchant(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PENCHANT, *words], capture_output=True, text=True, timeout=240)


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A service with a key, and three artefacts that it may serve."""

    service: Service
    old: Path
    new: Path
    other: Path
    process: subprocess.Popen[str]
    client: httpx.Client

    def version(self) -> str:
        answer = self.client.post("/v1/recommend", json=BODY)
        assert answer.status_code == 200, answer.text
        version: str = answer.json()["version"]
        return version

    def deploy(self, directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
        place = ["--service", str(self.service.directory)]
        return penchant("serve", "deploy", str(directory), *place, *options)

    def rollback(self) -> subprocess.CompletedProcess[str]:
        return penchant("serve", "rollback", "--service", str(self.service.directory))


@pytest.fixture(scope="module")
def shop(artefacts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    root = tmp_path_factory.mktemp("shop")
    service = Service(root / "service")
    place = ["--service", str(service.directory)]
    key = penchant("serve", "key", "add", "shop", "--rate-per-s", "10000", *place).stdout.strip()
    headers = {"authorization": f"Bearer {key}"}
    with (
        running(root, str(artefacts["old"]), *place, "--placement", "apart") as (process, url),
        httpx.Client(base_url=url, timeout=30, headers=headers) as client,
    ):
        yield Shop(service=service, **artefacts, process=process, client=client)


@contextmanager
def running(root: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`penchant serve run WORDS`, from when it answers until it has stopped."""
    port = free_port()
    command = [*PENCHANT, "serve", "run", *words, "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("  -d"):  # the last line of the introduction
                    break
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


@contextmanager
def asking(shop: Shop, deadline_ms: int = 9000) -> Iterator[Counter[str]]:
    """Requests one after the other from two callers; counts answers by what they were."""
    deadline = {"x-deadline-ms": str(deadline_ms)}
    counts: Counter[str] = Counter()
    over = threading.Event()

    def work() -> None:
        with httpx.Client(
            base_url=shop.client.base_url, headers=shop.client.headers, timeout=30
        ) as client:
            while not over.is_set():
                answer = client.post("/v1/recommend", json=BODY, headers=deadline)
                good = answer.status_code == 200
                counts[answer.json()["version"] if good else str(answer.status_code)] += 1
                counts["degraded"] += int(good and answer.json()["degraded"])

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_strangers_are_kept_out(shop: Shop) -> None:
    with httpx.Client(base_url=shop.client.base_url, timeout=30) as stranger:
        assert stranger.post("/v1/recommend", json=BODY).status_code == 401
        assert stranger.get("/readyz").status_code == 200


def test_a_version_is_rolled_in_and_back_without_a_failed_request(shop: Shop) -> None:
    old, new = version_of(shop.old), version_of(shop.new)
    assert shop.version() == old
    with asking(shop) as counts:
        deployed = shop.deploy(shop.new)
        assert deployed.returncode == 0, deployed.stderr
        assert shop.version() == new
        back = shop.rollback()
        assert back.returncode == 0, back.stderr
        assert shop.version() == old
    assert set(counts) == {old, new, "degraded"}
    assert counts["degraded"] == 0
    assert [step["action"] for step in shop.service.history()] == [
        "start",
        "deploy primary",
        "rollback",
    ]


def spoiled(directory: Path, into: Path) -> Path:
    """A whole artefact whose members say other things than on the day it was saved."""
    shutil.copytree(directory, into)
    test = SelfTest.read(into, EventLog.open(directory.parents[1] / "log").num_items)
    test.write(into, {name: scores + 1 for name, scores in test.scores.items()})
    card = json.loads((into / "ensemble.json").read_text())
    digest = hashlib.sha256((into / SELF_TEST_FILE).read_bytes()).hexdigest()
    card["sha256"][SELF_TEST_FILE] = digest
    (into / "ensemble.json").write_text(json.dumps(card))
    return into


def test_a_bad_version_never_takes_traffic(shop: Shop, tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    shutil.copytree(shop.new, torn)
    (torn / "items.arrow").write_bytes(b"")
    with asking(shop) as counts:
        refused = shop.deploy(torn)
        assert (refused.returncode, "is not the file" in refused.stderr) == (3, True)
        failed = shop.deploy(spoiled(shop.new, tmp_path / "spoiled"))
        assert failed.returncode == 4
        assert "fails its self-test" in failed.stderr
    assert set(counts) == {version_of(shop.old), "degraded"}


def processes(shop: Shop, title: str) -> list[psutil.Process]:
    """Replicas whose Ray title holds a text."""
    children = psutil.Process(shop.process.pid).children(recursive=True)
    return [child for child in children if title in " ".join(child.cmdline())]


@pytest.mark.long
def test_canaries_are_replaced_and_go_without_a_failed_request(shop: Shop) -> None:
    front, _ = processes(shop, "ServeReplica:front:front")
    with asking(shop) as counts, ThreadPoolExecutor(1) as aside:
        assert shop.deploy(shop.new, "--canary", "0.5").returncode == 0
        replaced = aside.submit(shop.deploy, shop.other, "--canary", "0.5")
        while version_of(shop.other) not in shop.service.traffic_file.read_text():
            assert not replaced.done(), replaced.result().stderr
            time.sleep(0.01)
        front.suspend()  # it has not looked yet, and will send to the first canary when it goes on
        try:
            time.sleep(4)
            assert not replaced.done()
        finally:
            front.resume()
        assert replaced.result().returncode == 0, replaced.result().stderr
        back = shop.rollback()
        assert back.returncode == 0, back.stderr
        assert {shop.version() for _ in range(20)} == {version_of(shop.old)}
    versions = {version_of(directory) for directory in (shop.old, shop.new, shop.other)}
    assert set(counts) == versions | {"degraded"}
    assert counts["degraded"] == 0


@pytest.mark.long
def test_another_layout_is_rolled_in_and_users_are_forgotten_there(shop: Shop) -> None:
    with asking(shop) as counts:
        canary = shop.deploy(shop.old, "--placement", "together", "--canary", "0.5")
        assert canary.returncode == 0, canary.stderr
        promoted = shop.deploy(shop.old)  # in the layout that it has
        assert promoted.returncode == 0, promoted.stderr
        traffic = shop.service.traffic()
        assert traffic is not None
        assert [len(traffic.primary.places), len(traffic.lives())] == [1, 2]
        assert shop.client.delete("/v1/users/somebody").status_code == 200
        back = shop.rollback()  # the next test wants each member in a process of its own
        assert back.returncode == 0, back.stderr
    assert set(counts) == {version_of(shop.old), "degraded"}
    assert counts["degraded"] == 0


def test_a_directory_is_served_once(shop: Shop) -> None:
    place = ["--service", str(shop.service.directory), "--port", str(free_port())]
    second = penchant("serve", "run", str(shop.new), *place)
    assert (second.returncode, "is served by another process" in second.stderr) == (2, True)
    assert shop.version() == version_of(shop.old)
    assert shop.service.endpoint().url == str(shop.client.base_url)


def test_a_member_that_is_killed_costs_quality_and_no_answer(shop: Shop) -> None:
    # All of them: under load there may be two, and then a death is not even noticed.
    victims = processes(shop, ":member-1-items")
    # Who waits as long as a replica takes to start, perhaps two seconds, gets a whole answer.
    with asking(shop, deadline_ms=1200) as counts:
        for victim in victims:
            victim.kill()
        until = time.monotonic() + 60
        while not counts["degraded"] and time.monotonic() < until:
            time.sleep(0.05)
        while time.monotonic() < until:
            if not shop.client.post("/v1/recommend", json=BODY).json()["degraded"]:
                break
            time.sleep(0.1)
    assert set(counts) == {version_of(shop.old), "degraded"}
    assert counts["degraded"] > 0
    assert time.monotonic() < until


@pytest.mark.long
def test_a_restart_goes_on_with_what_was_deployed(shop: Shop, tmp_path: Path) -> None:
    old, new = str(shop.old), str(shop.new)
    place = ["--service", str(tmp_path / "service")]
    with running(tmp_path, old, *place):
        deployed = penchant("serve", "deploy", new, *place, "--placement", "apart")
        assert deployed.returncode == 0, deployed.stderr
    gone = penchant("serve", "deploy", old, *place)
    assert (gone.returncode, "no running service" in gone.stderr) == (2, True)
    refused = penchant("serve", "run", old, *place, "--port", str(free_port()))
    assert refused.returncode == 2
    assert version_of(shop.old) in refused.stderr
    assert f"{version_of(shop.new)} ({new})" in refused.stderr
    with running(tmp_path, *place) as (_, url):
        patient = {"x-deadline-ms": "9000"}
        answer = httpx.post(f"{url}/v1/recommend", json=BODY, headers=patient, timeout=30).json()
    assert (answer["version"], answer["degraded"]) == (version_of(shop.new), False)
    traffic = Service(tmp_path / "service").traffic()
    assert traffic is not None
    assert (traffic.primary.layout.placement, traffic.previous) == ("apart", None)
