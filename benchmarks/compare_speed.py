"""What a comparison of many members costs: seconds of CPU and memory, combiner by combiner.

    python benchmarks/compare_speed.py            # 50 members x 20,000 requests x 500, two minutes
    python benchmarks/compare_speed.py --quick    # 12 members x 2,000 x 100, some seconds
    python benchmarks/compare_speed.py --larger   # and with 20,000 requests in each block

The requests are those of both blocks: half of them are blend, half are test, so that the scores
are 2 GB as float32. Scores are drawn, but shaped like a pool's: one signal that all members see,
noise of a strength of their own, and families of near copies that share most of it. The signal
also draws the one target of a request (a conditional logit, McFadden 1974).

What is timed is `compare_scores`, as docs/ensembles.md shows it, with every combiner but the
boosted `stack`. It gets arrays, as a program has them that scored with models of its own, and drawn
costs of members, without which there is no `cascade`; the total is told without it, too. What else
costs bring to a report, greedy selection member by member and the cascade's curve on test, is not
in it. The cold start of a report, every member on cold and warm items and users, is timed after
it, because foreign scores have no event log to tell those apart. Users are drawn 10,000 times, an
experiment's default.

A combiner's seconds are of its fit, the two fits for unseen users, and its scores on test. Seconds
of the bootstrap are of all draws and all intervals. The peak is the highest memory so far of the
process that compares (`ru_maxrss`), which is started for it and does nothing else. Prints tables;
the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from shared.facts import facts

from penchant.ensembles.combinations.combination import Combination
from penchant.ensembles.combiners.combiner import Combiner
from penchant.ensembles.comparing import fitting, foreign
from penchant.ensembles.comparing.cold_start import judge_cold_start
from penchant.ensembles.comparing.foreign import ForeignComparison, compare_scores
from penchant.ensembles.comparing.judge import Judge
from penchant.ensembles.comparing.segments import Segment
from penchant.ensembles.comparing.unseen import UnseenUsers
from penchant.ensembles.predictions import Blend, Predictions
from penchant.platform.ensemble_settings import COMBINER_NAMES
from penchant.platform.intervals import Resampler
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block

METRIC = "ndcg@10"
COMBINERS = tuple(name for name in COMBINER_NAMES if name != "stack")
RESAMPLES = 10_000
MOST_CORES = 2
FAMILY = 4  # near copies in a family; half of the members are in one
SHARPNESS = 2.0  # of the choice: how surely what the signal ranks first is the target
NOW_MS = 1_600_000_000_000
GOALS = {"wall_s": 60.0, "bootstrap_cpu_s": 10.0, "peak_gb": 6.0}
BOOTSTRAP = "bootstrap"


@dataclass(frozen=True)
class Size:
    members: int
    requests: int  # of each block
    candidates: int
    users: int


FULL, QUICK = Size(50, 10_000, 500, 4_000), Size(12, 1_000, 100, 400)
LARGER = Size(50, 20_000, 500, 4_000)


class Clock:
    """CPU seconds and peak memory by label; time in an inner label is not the outer one's."""

    def __init__(self) -> None:
        self.cpu_s: Counter[str] = Counter()
        self.peak_gb: dict[str, float] = {}
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def time(self, label: str) -> Iterator[None]:
        self._turn()
        self._running.append(label)
        try:
            yield
        finally:
            self._turn()
            self._running.pop()
            self.peak_gb[label] = peak_gb()

    def _turn(self) -> None:
        now = time.process_time()
        if self._running:
            self.cpu_s[self._running[-1]] += now - self._since
        self._since = now

    def timed(self, work: Callable[..., Any], label: Callable[..., str]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            with self.time(label(*args)):
                return work(*args, **named)

        return call


def peak_gb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def drawn(size: Size, block: Block) -> Predictions[Any]:
    """Scores of a block; the same members are as good in both of them."""
    taste = np.random.default_rng(0)
    draw = np.random.default_rng(1 if block is Block.BLEND else 2)
    shape = (size.requests, size.candidates)
    signal = draw.standard_normal(shape, dtype=np.float32)
    scores, shared, strength = {}, signal, np.float32(0.0)
    for at in range(size.members):
        noise = draw.standard_normal(shape, dtype=np.float32)
        if at < size.members // 2 and at % FAMILY:
            noise = np.float32(0.98) * shared + np.float32(0.2) * noise
        else:
            shared, strength = noise, np.float32(taste.uniform(0.7, 2.5))
        scale = np.float32(taste.lognormal(0.0, 1.0))  # one speaks in counts, one in logits
        scores[f"member{at:02d}"] = scale * (signal + strength * noise)
    signal *= np.float32(SHARPNESS)
    signal += draw.gumbel(size=shape).astype(np.float32)
    return Predictions(
        block=block,
        requests=asked(size, signal.argmax(axis=1), draw, later=block is Block.TEST),
        scores=scores,
        facts=drawn_facts(size.requests, draw),
    )


def asked(
    size: Size, target: NDArray[np.int64], draw: np.random.Generator, *, later: bool
) -> Requests:
    """Requests of one target each; every user asks about as often as any other."""
    count = size.requests
    row = np.arange(count, dtype=np.int64) + later * count
    return Requests(
        row=row,
        user=draw.permutation(np.arange(count) % size.users).astype(np.int32),
        time_ms=NOW_MS + row * 1000,
        end=row,
        target_offsets=np.arange(count + 1, dtype=np.int64),
        target=target.astype(np.int32),
        target_seen=np.zeros(count, dtype=bool),
    )


def drawn_facts(count: int, draw: np.random.Generator) -> NDArray[np.float32]:
    """What `gate` reads of each request, columns are `FACTS`."""
    columns = [
        draw.lognormal(3.0, 1.0, count).round(),
        draw.exponential(10.0, count),
        draw.random(count),
        draw.integers(0, 24, count),
        draw.integers(0, 7, count),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


class Timed:
    """A combiner that notes how long it fits and which combinations are its own."""

    def __init__(self, combiner: Combiner, clock: Clock, made: dict[int, str]) -> None:
        self._combiner, self._clock, self._made = combiner, clock, made
        self.name, self.tasks = combiner.name, combiner.tasks

    def fit(self, predictions: Predictions[Blend], metric: str) -> Combination:
        with self._clock.time(self.name):
            combination = self._combiner.fit(predictions, metric)
        self._made[id(combination)] = self.name
        return combination


@contextmanager
def watched(clock: Clock) -> Iterator[None]:
    """Times the parts of `compare_scores`."""
    made: dict[int, str] = {}
    make = fitting.make_combiners

    def timed_combiners(settings: Any, task: str, cost_ms: dict[str, float]) -> list[Timed]:
        return [Timed(one, clock, made) for one in make(settings, task, cost_ms)]

    def label_of(combination: Combination, *_: object) -> str:
        return made[id(combination)]

    def gaining(_: UnseenUsers, combiner: Combiner) -> str:
        return combiner.name

    parts: list[tuple[Any, str, Callable[..., str]]] = [
        (foreign, "merged", label_of),
        (UnseenUsers, "gain", gaining),
        *((Resampler, name, lambda *_: BOOTSTRAP) for name in ("__init__", "_intervals")),
        (foreign, "check_predictions", lambda *_: "checks"),
        (Predictions, "normalized", lambda *_: "normalising"),
        (Predictions, "shortlist", lambda *_: "shortlist"),
        (Judge, "sheet", lambda *_: "ranking targets"),
        (Judge, "permutation_p", lambda *_: "permutation test"),
        (Judge, "family_p", lambda *_: "permutation test"),
        (foreign, "diversity", lambda *_: "likeness of members"),
    ]
    with ExitStack() as stack:
        stack.enter_context(patch.object(fitting, "make_combiners", timed_combiners))
        for owner, name, label in parts:
            work = clock.timed(getattr(owner, name), label)
            stack.enter_context(patch.object(owner, name, work))
        yield


def measure(size: Size) -> dict[str, Any]:
    """One comparison, in a process that has done nothing else."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:MOST_CORES])
    blend, test = drawn(size, Block.BLEND), drawn(size, Block.TEST)
    before_gb, clock = peak_gb(), Clock()
    started = time.perf_counter()
    cost = np.random.default_rng(3).lognormal(1.0, 1.0, len(blend.scores))
    cost_ms = dict(zip(blend.scores, cost.tolist(), strict=True))
    with watched(clock), clock.time("all else"):
        found = compare_scores(
            blend, test, METRIC, combiners=COMBINERS, bootstrap=RESAMPLES, cost_ms=cost_ms
        )
    wall_s = time.perf_counter() - started
    start_cold(test, clock)
    scores = [part.nbytes for one in (blend, test) for part in one.scores.values()]
    return {
        **asdict(size),
        "scores_gb": sum(scores) / 1e9,
        "peak_before_gb": before_gb,
        "peak_gb": peak_gb(),
        "cpu_s": sum(clock.cpu_s.values()),
        "cpu_s_without_cascade": sum(clock.cpu_s.values()) - clock.cpu_s["cascade"],
        "wall_s": wall_s,
        "bootstrap_cpu_s": clock.cpu_s[BOOTSTRAP],
        "best_single": found.comparison.best_single,
        "best_single_value": found.comparison.members[found.comparison.best_single][METRIC].mean,
        "verdict": found.verdict(),
        "combiners": [row | costs_of(row["name"], clock) for row in combined(found)],
        "parts": [
            {"name": name} | costs_of(name, clock)
            for name, _ in clock.cpu_s.most_common()
            if name not in COMBINERS
        ],
    }


def start_cold(test: Predictions[Any], clock: Clock) -> None:
    """Every member on a tenth of the items and of the users, which are cold, and on the others."""
    asked = test.requests
    judge = Judge(asked, np.zeros((len(asked), 1), dtype=bool), METRIC, RESAMPLES, 0)
    sheets = {name: judge.sheet(scores) for name, scores in test.scores.items()}
    parts = []
    for by, cold in (("items", asked.target % 10 == 0), ("users", asked.user % 10 == 0)):
        for name, inside in (("cold", cold), ("warm", ~cold)):  # one target a request
            counted = inside if by == "items" else None
            parts.append(
                Segment(by=by, name=name, requests=np.flatnonzero(inside), targets=counted)
            )
    with clock.time("cold start"):
        judge_cold_start(judge, parts, METRIC, sheets, {})


def combined(found: ForeignComparison) -> list[dict[str, Any]]:
    """What each combiner was worth on test."""
    return [
        {
            "name": one.combiner,
            "models": len(one.combination.shares),
            METRIC: one.test[METRIC].mean,
            "difference": one.difference[METRIC].to_json(),
        }
        for one in found.comparison.candidates
    ]


def costs_of(name: str, clock: Clock) -> dict[str, float]:
    return {"cpu_s": clock.cpu_s[name], "peak_gb": clock.peak_gb[name]}


def show(run: dict[str, Any]) -> None:
    print(
        f"{run['members']} members, {run['requests']:,} requests in blend and as many in test, "
        f"{run['candidates']} candidates, {run['users']:,} users: {run['scores_gb']:.2f} GB of "
        f"scores, peak {run['peak_before_gb']:.2f} GB with them"
    )
    best, value = run["best_single"], run["best_single_value"]
    print(f"{'':<22}{'CPU s':>8}{'peak GB':>9}{'models':>8}{METRIC:>9}  over {best} ({value:.4f})")
    for row in run["combiners"]:
        gain = row["difference"]
        print(
            f"{row['name']:<22}{row['cpu_s']:>8.2f}{row['peak_gb']:>9.2f}{row['models']:>8}"
            f"{row[METRIC]:>9.4f}  {gain['mean']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]"
        )
    for row in run["parts"]:
        print(f"{row['name']:<22}{row['cpu_s']:>8.2f}{row['peak_gb']:>9.2f}")
    print(f"{'total':<22}{run['cpu_s']:>8.2f}{run['peak_gb']:>9.2f}  wall {run['wall_s']:.1f} s")
    print(f"{'without cascade':<22}{run['cpu_s_without_cascade']:>8.2f}")
    for name, most in GOALS.items():
        print(f"{name}: {run[name]:.2f}, wanted under {most:.0f}: {run['met'][name]}")
    print(run["verdict"], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds and memory of comparing many members.")
    parser.add_argument("--quick", action="store_true", help="fewer of everything, some seconds")
    parser.add_argument("--larger", action="store_true", help="also 20,000 requests in each block")
    options = parser.parse_args()
    sizes = [QUICK if options.quick else FULL] + ([LARGER] if options.larger else [])
    runs = []
    for size in sizes:
        # Spawned: a fork would begin with this process's memory.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=1, mp_context=context) as alone:
            run = alone.submit(measure, size).result()
        run["met"] = {name: run[name] < most for name, most in GOALS.items()}
        show(run)
        runs.append(run)
    print(json.dumps(summary(runs)))


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures that goals were set for, of the first run, and all runs."""
    return {
        "benchmark": "compare_speed",
        **{name: round(runs[0][name], 2) for name in (*GOALS, "cpu_s", "cpu_s_without_cascade")},
        "goals": GOALS,
        "runs": runs,
        **facts("numpy", "scipy"),
    }


if __name__ == "__main__":
    main()
