"""An ensemble on Ray Serve, started, asked and stopped as its users do it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import torch

from penchant.ensembles.artefacts.artefact import load_ensemble, save_ensemble
from penchant.ensembles.combinations.linear import Linear
from penchant.platform.config import load_experiment
from penchant.platform.prepared import prepare
from penchant.platform.recipes import ItemItemRecipe, PersonalRecipe, SequenceRecipe, Size
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block, Window
from penchant.serve.routes.stored import StoredRequests
from penchant.serve.run import free_port
from penchant.trainers.counting.item_item import ItemItemMember
from penchant.trainers.fit import fit_baseline
from penchant.trainers.member import Member, Past
from penchant.trainers.score import keep_member
from penchant.trainers.sequence.model import SequenceMember
from penchant.trainers.sequence.network import SequenceNetwork

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.alone]

WEIGHTS = {"own": 0.5, "items": 0.3, "sequence": 0.2}
LAST = 20  # events that the member `items` sees
PENCHANT = [sys.executable, "-W", "ignore", "-m", "penchant.cli.main"]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """What is served, and where."""

    directory: Path
    run: RunDirectory
    stored: StoredRequests
    poison: int  # an item after which the member `items` gives no numbers
    process: subprocess.Popen[str]
    client: httpx.Client

    def has_poison(self, at: int) -> bool:
        log, asked = self.stored.log, self.stored.requests
        rows = slice(max(int(asked.first(log)[at]), int(asked.end[at]) - LAST), int(asked.end[at]))
        return bool(np.any(log.item[rows] == self.poison))

    def requests(self, *, with_poison: bool) -> list[int]:
        every = range(len(self.stored.requests))
        return [at for at in every if self.has_poison(at) == with_poison]

    def score(self, at: int, **headers: str) -> httpx.Response:
        """Ask about all items what a stored request asked."""
        items = self.stored.catalog.item_ids
        body = self.stored.body(at) | {"candidates": items, "members": True}
        return self.client.post("/v1/score", json=body, headers=headers)


def members_of(past: Past, poison: int) -> dict[str, Member]:
    own = PersonalRecipe(kind="personal", window=Window(half_life_days=20))
    last = Window(events=LAST)
    items = fit_baseline(ItemItemRecipe(kind="item_item", window=last), past)
    assert isinstance(items, ItemItemMember)
    weights = items.weights.copy()
    weights[poison] = np.nan
    recipe = SequenceRecipe(kind="sequence", size=Size(dim=16, layers=1), max_tokens=16)
    torch.manual_seed(0)
    network = SequenceNetwork(recipe, past.log.num_items, None)
    return {
        "own": fit_baseline(own, past),
        "items": replace(items, weights=weights),
        "sequence": SequenceMember(recipe=recipe, network=network),
    }


@pytest.fixture(scope="module")
def endpoint(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Three members, of which `items` fails for users who have just had a certain item.

    It gets past its trial when it starts: that ends with other items, and it sees the last ones.
    """
    run = RunDirectory(tmp_path_factory.mktemp("served") / "run")
    prepared = prepare(load_experiment(experiment_file), run)
    spec, log = prepared.experiment.requests, prepared.log
    poison = 0
    past = Past(log=log, spec=spec, until_ms=prepared.blocks.select_ms)
    for name, member in members_of(past, poison).items():
        keep_member(run, name, member, log, prepared.requests, {}, exclude_seen=False)
    directory = save_ensemble(
        run,
        "served",
        Linear(normalization="zscore", weights=WEIGHTS),
        spec,
        {"data_until": "2024"},
    )
    port = free_port()
    command = [*PENCHANT, "serve", "run", str(directory), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=run.root)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("  -d"):  # the last line of the introduction
            break
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        yield Endpoint(
            directory=directory,
            run=run,
            stored=StoredRequests.open(run.root),
            poison=poison,
            process=process,
            client=client,
        )
    process.stdout.close()
    if process.poll() is None:  # the last test was not among those that were asked for
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def test_the_endpoint_gives_the_scores_of_the_store(endpoint: Endpoint) -> None:
    ensemble = load_ensemble(endpoint.directory, only=[])
    row = endpoint.stored.requests.row
    store = {m: endpoint.run.read_predictions(Block.TEST, m, row) for m in WEIGHTS}
    asked = endpoint.requests(with_poison=False)[:30]
    assert len(asked) >= 20
    for at in asked:
        answer = endpoint.score(at).json()
        assert (answer["degraded"], answer["left_out"]) == (False, [])
        stored = {name: scores[at : at + 1] for name, scores in store.items()}
        close([r["score"] for r in answer["results"]], ensemble.combine(stored)[0])
        for name, scores in stored.items():
            close([r["members"][name] for r in answer["results"]], scores[0])


def test_a_member_that_fails_is_left_out_and_said_so(endpoint: Endpoint) -> None:
    at = endpoint.requests(with_poison=True)[0]
    ensemble = load_ensemble(endpoint.directory, only=[])
    row = endpoint.stored.requests.row
    rest = [name for name in WEIGHTS if name != "items"]
    stored = {m: endpoint.run.read_predictions(Block.TEST, m, row)[at : at + 1] for m in rest}
    answer = endpoint.score(at).json()
    assert answer["left_out"] == [{"member": "items", "reason": "failed"}]
    close([r["score"] for r in answer["results"]], ensemble.combine(stored)[0])


def test_when_nobody_answers_in_time_there_is_503_at_once(endpoint: Endpoint) -> None:
    item = endpoint.stored.catalog.item_ids[0]
    body = {"history": [{"item": item, "time": at} for at in range(10_000)]}
    response = endpoint.client.post("/v1/recommend", json=body, headers={"x-deadline-ms": "10"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert endpoint.client.post("/v1/recommend", json=body).status_code == 200


def test_serves_own_headers_cannot_lift_our_deadline(endpoint: Endpoint) -> None:
    headers = {"x-request-timeout-seconds": "0", "x-request-disconnect-disabled": "?1"}
    item = endpoint.stored.catalog.item_ids[0]
    body = {"history": [{"item": item, "time": at} for at in range(10_000)]}
    response = endpoint.client.post(
        "/v1/recommend", json=body, headers=headers | {"x-deadline-ms": "10"}
    )
    assert response.status_code == 503


def test_a_cold_start_has_an_answer(endpoint: Endpoint) -> None:
    answer = endpoint.client.post("/v1/recommend", json={"history": [], "k": 3}).json()
    assert (answer["degraded"], answer["used_events"], len(answer["results"])) == (False, 0, 3)


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"history": [], "k": 0}', "application/json", 422),
        (b'{"history": [{"item": "secret", "time": "never"}]}', "application/json", 422),
        (b"secret", "application/json", 400),
        (b'{"history": []}', "text/plain", 415),
        (b"x" * 10_000_000, "application/json", 413),
    ],
)
def test_bad_bodies_are_refused_and_good_ones_answered_after(
    endpoint: Endpoint, content: bytes, kind: str, status: int
) -> None:
    headers = {"content-type": kind}
    response = endpoint.client.post("/v1/recommend", content=content, headers=headers)
    assert response.status_code == status
    assert "secret" not in response.text
    assert endpoint.client.post("/v1/recommend", json={"history": []}).status_code == 200


def test_a_body_without_a_length_is_cut_at_the_limit(endpoint: Endpoint) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 100_000

    headers = {"content-type": "application/json"}
    response = endpoint.client.post("/v1/recommend", content=chunks(), headers=headers)
    assert response.status_code == 413


def test_request_ids_come_back(endpoint: Endpoint) -> None:
    headers = {"x-request-id": "trace-1"}
    response = endpoint.client.post("/v1/recommend", json={"history": []}, headers=headers)
    assert response.json()["request_id"] == "trace-1"
    assert response.headers["x-request-id"] == "trace-1"


def test_it_says_what_it_serves_and_how_to_ask(endpoint: Endpoint) -> None:
    card: dict[str, Any] = endpoint.client.get("/v1/ensemble").json()
    assert {m["id"]: m["weight"] for m in card["members"]} == WEIGHTS
    assert card["data_until"] == "2024"
    assert "/v1/score" in endpoint.client.get("/openapi.json").json()["paths"]
    assert endpoint.client.get("/readyz").json()["version"] == card["version"]


SECRET = "ann.smith@example.org-hates-liver"


def test_nothing_that_a_user_sent_is_in_any_log_of_the_service(endpoint: Endpoint) -> None:
    """Neither in ours nor in those of Ray, whose files lie in the session's directory."""
    client, known = endpoint.client, endpoint.stored.catalog.item_ids[0]
    event = {"item": SECRET, "time": "2020-01-02T12:00:00Z"}
    told = {"request_id": "r1", "item": SECRET, "label": 1, "time": "2020-01-02T12:00:00Z"}
    of_poison = endpoint.stored.body(endpoint.requests(with_poison=True)[0])
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/score", {"history": [event], "candidates": [SECRET]}),
        ("/v1/score", {"history": [event], "candidates": [{"id": "x", "text": SECRET}]}),
        ("/v1/score", {"user": SECRET, "history": [event], "candidates": [known]}),
        ("/v1/score", {**of_poison, "user": SECRET, "candidates": [known]}),
        ("/v1/recommend", {"history": [event], SECRET: 1}),
        ("/v1/explain", {"history": [event], "candidates": [SECRET]}),
        ("/v1/batch", {"requests": [{"score": {"history": [event], "candidates": [SECRET]}}]}),
        ("/v1/events", {"user": SECRET, "events": [event]}),
        ("/v1/feedback", {"outcomes": [told]}),
        (f"/{SECRET}", {SECRET: SECRET}),
    ]
    answers = [client.post(path, json=body) for path, body in bodies]
    assert {answer.status_code for answer in answers} == {200, 404, 422}
    as_json = {"content-type": "application/json"}
    broken = client.post("/v1/score", content=f'{{"{SECRET}', headers=as_json)
    headers = {"x-request-id": f"{SECRET} {SECRET}", "x-deadline-ms": SECRET, "x-own": SECRET}
    odd = client.post("/v1/score", json=bodies[2][1], headers=headers)
    assert (broken.status_code, odd.status_code) == (400, 400)
    assert client.delete(f"/v1/users/{SECRET}").status_code == 200
    logs = _session(endpoint) / "logs"
    assert list(logs.glob("serve/replica_*"))  # they are those of this service
    time.sleep(1)  # lines may wait to be written
    for path in logs.glob("**/*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
    for path in logs.glob("serve/*.log"):
        assert "Traceback" not in path.read_text(errors="replace"), path


def _session(endpoint: Endpoint) -> Path:
    """The directory of the service's Ray, as the command lines of its processes name it."""
    for process in psutil.Process(endpoint.process.pid).children(recursive=True):
        for word in process.cmdline():
            name, _, value = word.partition("=")
            if name == "--session_dir":
                return Path(value)
    raise AssertionError("no process of the service says where its Ray keeps its logs")


def test_a_second_endpoint_on_the_same_port_is_refused(endpoint: Endpoint) -> None:
    port = str(endpoint.client.base_url.port)
    command = [*PENCHANT, "serve", "run", str(endpoint.directory), "--port", port]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert second.returncode == 5
    assert re.search(f"error: port {port} .* cannot be used", second.stderr)


def test_ask_shows_a_stored_request(endpoint: Endpoint) -> None:
    url = str(endpoint.client.base_url)
    command = [*PENCHANT, "serve", "ask", str(endpoint.run.root), "--url", url]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert asked.returncode == 0, asked.stderr
    assert "own 0.50, items 0.30, sequence 0.20" in asked.stdout
    assert "chosen then" in asked.stdout


def test_fronts_and_members_yield_to_the_proxy_from_their_first_instruction(
    endpoint: Endpoint,
) -> None:
    processes = psutil.Process(endpoint.process.pid).children(recursive=True)
    titles = {process: " ".join(process.cmdline()) for process in processes}
    proxies = [one for one, title in titles.items() if title.startswith("ray::ProxyActor")]
    replicas = [one for one, title in titles.items() if "ServeReplica" in title]
    assert len(proxies) == 1
    assert len(replicas) >= 3
    step = 5 if sys.platform == "linux" else 0
    for replica in replicas:
        assert replica.nice() == proxies[0].nice() + step
        for thread in replica.threads():
            assert os.getpriority(os.PRIO_PROCESS, thread.id) >= replica.nice()


def test_ctrl_c_stops_everything(endpoint: Endpoint) -> None:
    started = psutil.Process(endpoint.process.pid).children(recursive=True)
    assert len(started) > 5
    endpoint.process.send_signal(signal.SIGINT)
    assert endpoint.process.wait(60) == 0
    _, alive = psutil.wait_procs(started, timeout=20)
    assert alive == []


def close(answered: list[float], stored: Any) -> None:
    np.testing.assert_allclose(answered, stored, rtol=1e-5, atol=1e-5)
