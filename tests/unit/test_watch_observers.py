"""A watcher that fails spoils nothing; Prometheus text is passed on without what is not ours."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest

from penchant.platform.errors import UnreachableError
from penchant.serve.gate.gate import Refusal
from penchant.serve.routes.observe import Seen
from penchant.serve.watch.observers import Observers
from penchant.serve.watch.scrape import _agent_url, only_ours, scrape

SEEN = cast(Seen, "seen")
REFUSAL = Refusal(path="/v1/score", status=422)


class Notes:
    def __init__(self) -> None:
        self.told: list[Any] = []

    def answered(self, seen: Seen) -> None:
        self.told.append(seen)

    def refused(self, refusal: Refusal) -> None:
        self.told.append(refusal)

    def passed(self, path: str, status: int, latency_ms: float) -> None:
        self.told.append((path, status, latency_ms))


class Breaks:
    def answered(self, seen: Seen) -> None:
        raise ValueError("what a user wrote")

    def refused(self, refusal: Refusal) -> None:
        raise KeyError("what a user wrote")

    def passed(self, path: str, status: int, latency_ms: float) -> None:
        raise OSError("what a user wrote")


def test_an_error_of_one_watcher_is_counted_and_the_others_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before, after, errors = Notes(), Notes(), list[str]()
    watchers = Observers([before, Breaks(), after], errors.append)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            watchers.answered(SEEN)
        watchers.refused(REFUSAL)
        watchers.passed("/v1/events", 200, 3.0)
    assert before.told == after.told == [*[SEEN] * 3, REFUSAL, ("/v1/events", 200, 3.0)]
    assert errors == ["Breaks"] * 5
    assert watchers.errors == 5
    assert len(caplog.records) == 1  # a minute has not passed
    assert "ValueError" in caplog.text
    assert "what a user wrote" not in caplog.text


def test_a_counter_that_fails_spoils_nothing_either() -> None:
    def broken(name: str) -> None:
        raise RuntimeError

    watchers = Observers([Breaks()], broken)
    watchers.answered(SEEN)
    assert watchers.errors == 1


TEXT = """# HELP ray_node_mem_used Memory
# TYPE ray_node_mem_used gauge
ray_node_mem_used{ip="x"} 1.0
# HELP ray_penchant_requests_total Requests
# TYPE ray_penchant_requests_total counter
ray_penchant_requests_total{path="/v1/score"} 2.0
# HELP python_gc_objects_total ray_penchant_ mentioned in passing
python_gc_objects_total 3.0
# TYPE ray_serve_num_http_requests_total counter
ray_serve_num_http_requests_total{app="penchant"} 4.0
"""


def test_only_our_metrics_and_those_of_serve_are_passed_on() -> None:
    assert only_ours(TEXT) == (
        "# HELP ray_penchant_requests_total Requests\n"
        "# TYPE ray_penchant_requests_total counter\n"
        'ray_penchant_requests_total{path="/v1/score"} 2.0\n'
        "# TYPE ray_serve_num_http_requests_total counter\n"
        'ray_serve_num_http_requests_total{app="penchant"} 4.0\n'
    )
    assert only_ours("") == ""


def test_the_agent_of_this_node_is_asked() -> None:
    nodes = [
        {"NodeID": "a", "NodeManagerAddress": "10.0.0.1", "MetricsExportPort": 1},
        {"NodeID": "b", "NodeManagerAddress": "fd00::2", "MetricsExportPort": 2},
        {"NodeID": "c", "NodeManagerAddress": "10.0.0.3", "MetricsExportPort": -1},
    ]
    assert _agent_url(nodes, "a") == "http://10.0.0.1:1/metrics"
    assert _agent_url(nodes, "b") == "http://[fd00::2]:2/metrics"
    for node_id in ("c", "d"):
        with pytest.raises(UnreachableError, match="exports no metrics"):
            _agent_url(nodes, node_id)


def test_without_ray_there_is_nothing_to_scrape() -> None:
    with pytest.raises(UnreachableError, match="no Ray"):
        scrape()
