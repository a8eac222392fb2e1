"""How many events a CPU-second `sequence` members learn from, and where the time goes.

    python benchmarks/train_speed.py             # median of 5 epochs for each setting
    python benchmarks/train_speed.py --quick     # of 2

MovieLens-100K from its installed package, one thread, 64 dimensions, 2 layers, softmax over all
items, no copy head. Counted is everything that a training step does: laying out the batch, forward,
backward, clipping and AdamW. A history of more than 2 x `max_tokens` events is read in pieces. The
last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from shared.facts import facts

from penchant.platform.config import Data, Experiment, Requests, Time
from penchant.platform.errors import PenchantError
from penchant.platform.prepared import Prepared, prepare
from penchant.platform.recipes import PopularityRecipe, SequenceRecipe, Size
from penchant.platform.store import RunDirectory
from penchant.trainers.member import Past
from penchant.trainers.sequence.network import SequenceNetwork, basket_loss
from penchant.trainers.sequence.plan import TrainingPlan

#: (max_tokens, whether items that the user has had are left out of the softmax)
SETTINGS = ((50, False), (100, False), (50, True))
PARTS = ("batch", "forward", "backward", "optimizer")
WARM_UP = 5  # steps
#: RecTools 0.19 SASRec, 64 dimensions, 2 blocks, 100 events, softmax over 1,682 items, one thread.
PEER_EVENTS_PER_CPU_S = 10_300


class Clock:
    """CPU seconds of this process, by part of a step."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(PARTS, 0.0)
        self._last = time.process_time()

    def charge(self, part: str) -> None:
        """Since the last charge, the process has worked on this part."""
        now = time.process_time()
        self.spent[part] += now - self._last
        self._last = now


def movies(folder: Path) -> Prepared:
    """The log of examples/movies.yaml; members are of no interest here."""
    experiment = Experiment(
        name="train-speed",
        data=Data(source="movielens-100k"),
        time=Time(quantiles={"select": 0.7, "blend": 0.8, "test": 0.9}),
        requests=Requests(per_block=100),
        members=(PopularityRecipe(kind="popularity"),),
    )
    return prepare(experiment, RunDirectory(folder / "run"))


def measure(prepared: Prepared, max_tokens: int, exclude_seen: bool, epochs: int) -> dict[str, Any]:
    """Train up to the start of `test`; figures of the median epoch."""
    recipe = SequenceRecipe(
        kind="sequence",
        tokens="event",
        max_tokens=max_tokens,
        size=Size(dim=64, layers=2, heads=2),
        copy_half_lives_days=(),
        dropout=0.2,
    )
    spec = prepared.experiment.requests.model_copy(update={"exclude_seen": exclude_seen})
    past = Past(log=prepared.log, spec=spec, until_ms=prepared.blocks.test_ms)
    torch.manual_seed(0)
    plan, network = TrainingPlan(recipe, past), SequenceNetwork(recipe, past.log.num_items, None)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    run_epoch(plan, network, optimizer, 0, steps=WARM_UP)
    rounds = [run_epoch(plan, network, optimizer, epoch) for epoch in range(1, epochs + 1)]
    seconds = {part: median(spent[part] for _, spent in rounds) for part in PARTS}
    return {
        "max_tokens": max_tokens,
        "exclude_seen": exclude_seen,
        "items": past.log.num_items,
        "events": rounds[0][0],
        "events_per_cpu_s": round(median(n / sum(spent.values()) for n, spent in rounds)),
        "best_events_per_cpu_s": round(max(n / sum(spent.values()) for n, spent in rounds)),
        "share": {part: round(s / sum(seconds.values()), 3) for part, s in seconds.items()},
    }


def run_epoch(
    plan: TrainingPlan,
    network: SequenceNetwork,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    steps: int | None = None,
) -> tuple[int, dict[str, float]]:
    """Events that were learned from, and CPU seconds of each part."""
    events, clock = 0, Clock()
    pieces = plan.pieces(epoch)
    for chosen in plan.batches(epoch)[:steps]:
        step = plan.step(pieces, chosen, epoch, rank=0, workers=1)
        clock.charge("batch")
        losses = basket_loss(network(step.batch), step.target, step.target_request)
        clock.charge("forward")
        (losses.sum() / step.global_requests).backward()
        clock.charge("backward")
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        clock.charge("optimizer")
        events += step.events
    return events, clock.spent


def main() -> None:
    parser = argparse.ArgumentParser(description="Training speed of `sequence`.")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, under a minute")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            prepared = movies(Path(folder))
        except PenchantError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        head = ("exclude_seen", "events/CPU-s", *PARTS)
        print(f"{'max_tokens':>10}" + "".join(f"{name:>14}" for name in head))
        for max_tokens, exclude_seen in SETTINGS:
            row = measure(prepared, max_tokens, exclude_seen, 2 if arguments.quick else 5)
            rows.append(row)
            shares = "".join(f"{row['share'][part]:>14.0%}" for part in PARTS)
            speed = f"{row['events_per_cpu_s']:>14,}"
            print(f"{max_tokens:>10}{exclude_seen!s:>14}{speed}{shares}", flush=True)
    print(
        f"RecTools 0.19 SASRec at 64 dimensions, 2 blocks, 100 events, softmax over all items: "
        f"{PEER_EVENTS_PER_CPU_S:,} events a CPU-second,\nmeasured earlier on one thread of this "
        "kind of machine, not in this run."
    )
    print(json.dumps(summary(rows)))


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Key figures; `ratio` is the first setting over the peer's figure."""
    described = facts("torch", "numpy")
    described["machine"]["threads"] = torch.get_num_threads()
    return {
        "benchmark": "train_speed",
        "events_per_cpu_s": rows[0]["events_per_cpu_s"],
        "ratio": round(rows[0]["events_per_cpu_s"] / PEER_EVENTS_PER_CPU_S, 2),
        "peer_events_per_cpu_s": PEER_EVENTS_PER_CPU_S,
        "runs": rows,
        **described,
    }


if __name__ == "__main__":
    main()
