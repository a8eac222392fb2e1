"""What is told of a training follows, by hand, from its losses, counts and seconds."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from penchant.platform.store import RunDirectory
from penchant.platform.tracking import STEPS_FILE, StepsFile, Trackers, read_steps, track
from penchant.trainers import step_log
from penchant.trainers.course import Epoch, Group
from penchant.trainers.step_log import StepLog
from penchant.trainers.throughput import flops_per_token, measured_peak

PEAK = 2e6  # operations a second


class Network(nn.Module):
    """Two matrices, of which one learns, and what does not count: embedding, vectors, pooler."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 4)
        self.one = nn.Linear(4, 3)
        self.two = nn.Linear(3, 2).requires_grad_(False)
        self.norm = nn.LayerNorm(4)
        self.base = nn.ModuleDict({"pooler": nn.Linear(4, 4)})


def test_a_token_takes_six_operations_a_weight_that_learns_and_four_of_another() -> None:
    assert flops_per_token(Network()) == 6 * 4 * 3 + 4 * 3 * 2


def test_the_peak_is_measured_once_and_draws_nothing_from_the_global_stream() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    measured_peak.cache_clear()
    began = time.perf_counter()
    peak = measured_peak("cpu", torch.float32)
    assert time.perf_counter() - began < 3
    assert 1e8 < peak < 1e14  # any machine's
    assert measured_peak("cpu", torch.float32) == peak
    assert torch.equal(torch.rand(4), expected)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(step_log, "time", made)
    monkeypatch.setattr(step_log, "measured_peak", lambda device, dtype: PEAK)
    return made


def engine() -> Any:
    return SimpleNamespace(
        device=torch.device("cpu"), module=Network(), get_global_grad_norm=lambda: torch.tensor(1.5)
    )


def epoch(number: int, **values: Any) -> Epoch:
    given = {"train_loss": 0.0, "select_loss": 3.0, "metric": "ndcg@10", "select_metric": 0.25}
    return Epoch(epoch=number, epochs=2, seconds=1.0, events_per_s=1.0, **(given | values))


def told(root: Path, step: int = 0) -> tuple[StepLog, Path]:
    run = RunDirectory(root)

    def start(begin: int) -> Trackers:
        tracked = track(run, "long", project="shop", step=begin, facts={})
        return Trackers({"jsonl": StepsFile(tracked)})

    log = StepLog(Group(rank=0, workers=1), start)
    log.begin(engine(), step, token_flops=1000.0, request_flops=500.0)
    return log, run.member("long") / STEPS_FILE


def test_throughput_and_utilisation_of_a_step(tmp_path: Path, clock: Clock) -> None:
    """400 tokens and 20 requests in 2 s: 400 x 1000 + 20 x 500 operations, of 2 x 2e6."""
    log, path = told(tmp_path)
    with log:
        log.begin_epoch(0, 2, 4)
        clock.now += 2.0
        log.step(loss=1.25, learning_rate=0.1, tokens=400, requests=20, events=60)
    (line,) = read_steps(path)
    memory = line.pop("memory_mb")
    assert 10 < memory < 1e6
    assert line == {
        "step": 1,
        "epoch": 0,
        "loss": 1.25,
        "learning_rate": 0.1,
        "gradient_norm": 1.5,
        "tokens_per_s": 200.0,
        "requests_per_s": 10.0,
        "events_per_s": 30.0,
        "peak_share": pytest.approx(410_000 / 4e6),
    }


def test_the_last_step_of_an_epoch_has_what_select_said(tmp_path: Path, clock: Clock) -> None:
    log, path = told(tmp_path, step=6)
    with log:
        log.begin_epoch(3, 2, 8)
        for loss in (4.0, 2.0):
            clock.now += 1.0
            log.step(loss=loss, learning_rate=0.1, tokens=1, requests=1)
        clock.now += 50.0  # judging is no training
        log.end_epoch(epoch(3, train_loss=3.0, select_loss=2.5))
        lines = read_steps(path)  # before it is closed: the checkpoint of step 8 is written now
    assert [(line["step"], line["loss"]) for line in lines] == [(7, 4.0), (8, 2.0)]
    assert "select_loss" not in lines[0]
    assert lines[1]["select_loss"] == 2.5
    assert lines[1]["select_ndcg@10"] == 0.25
    assert lines[1]["train_loss"] == 3.0
    assert lines[1]["tokens_per_s"] == 1.0


def test_a_long_training_has_about_two_thousand_lines(tmp_path: Path, clock: Clock) -> None:
    """4,500 steps in all: a line every third, and one where an epoch ends."""
    log, path = told(tmp_path)
    with log:
        for number in range(2):
            log.begin_epoch(number, 2250, 4500)
            for at in range(2250):
                clock.now += 1.0
                log.step(loss=float(at % 3), learning_rate=0.1, tokens=10, requests=1)
            log.end_epoch(epoch(number))
    lines = read_steps(path)
    assert [line["step"] for line in lines] == list(range(3, 4501, 3))
    assert {line["loss"] for line in lines} == {1.0}
    assert {line["tokens_per_s"] for line in lines} == {10.0}


def test_steps_of_a_millisecond_share_a_line(tmp_path: Path, clock: Clock) -> None:
    """The first step shows how long one takes; then a line is about 25 ms long, 32 steps here."""
    log, path = told(tmp_path)
    with log:
        log.begin_epoch(0, 100, 100)
        for _ in range(100):
            clock.now += 2**-10 * 0.8
            log.step(loss=1.0, learning_rate=0.1, tokens=10, requests=1)
        log.end_epoch(epoch(0))
    assert [line["step"] for line in read_steps(path)] == [1, 33, 65, 97, 100]


def test_other_workers_tell_nothing(tmp_path: Path, clock: Clock) -> None:
    def never(step: int) -> Trackers:
        raise AssertionError("only the first worker tracks")

    class Alone(Group):
        def total(self, values: torch.Tensor) -> torch.Tensor:
            return values + 1.0  # what the first worker adds

    with StepLog(Alone(rank=1, workers=2), never) as log:
        log.begin(engine(), 0, token_flops=1.0, request_flops=0.0)
        log.begin_epoch(0, 1, 1)
        clock.now += 1.0
        log.step(loss=1.0, learning_rate=0.1, tokens=1, requests=1)
        log.end_epoch(epoch(0))
    assert log.lost == {}
