"""A run's own text member on its own test requests: what int8 costs, and what a token budget wins.

    python benchmarks/text_requests.py runs/demo            # some minutes
    python benchmarks/text_requests.py runs/demo --quick

int8: the run's metric with scores of torch, ONNX Runtime and its int8, and the differences to torch
with 95% intervals from a bootstrap of users.

Batches: test requests arrive in their order, 16 gather at a time, and share batches by count (all
16, padded to the longest) or by a budget of tokens (texts of like length). How skewed lengths are
follows from the window and from the longest text; empty histories are left out, since equal texts
are read once. Times are CPU seconds of one thread of ONNX Runtime. Prints tables; the last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from shared.facts import facts
from text_engines import GATHERED, batches_of, clock, run_all

from penchant.platform.auc import auc_interval
from penchant.platform.intervals import Interval, Resampler
from penchant.platform.item_tokens import TokenLists
from penchant.platform.metrics import ranking_metrics, target_ranks
from penchant.platform.prepared import Prepared, open_prepared
from penchant.platform.requests import Requests
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block, Window
from penchant.trainers.fit import load_member
from penchant.trainers.text.batches import framed
from penchant.trainers.text.engine import Engine
from penchant.trainers.text.model import TextMember
from penchant.trainers.text.onnx_engine import onnx_engine

WINDOWS, TOKENS, BUDGETS = (7, 14, 30), (32, 128), (64, 128, 256, 512)
THREADS = 1


def quality(member: TextMember, prepared: Prepared, requests: Requests, cache: Path) -> list[Any]:
    """The run's metric with each engine, and its difference to torch."""
    resampler = Resampler(requests.user, 1000, seed=0)
    rows, plain = [], member.score(prepared.log, requests)
    for name in ("torch", "onnx", "onnx-int8"):
        engine = member.on_engine(name, threads=THREADS, cache_dir=cache)
        scores = plain if name == "torch" else engine.score(prepared.log, requests)
        metric, found, change = judged(scores, plain, requests, prepared, resampler)
        row = {
            "engine": name,
            "metric": metric,
            "value": round(found.mean, 5),
            "change": round(change.mean, 5),
            "low": round(change.low, 5),
            "high": round(change.high, 5),
            "largest_score_difference": float(f"{np.abs(scores - plain).max():.2g}"),
        }
        rows.append(row)
        print("".join(f"{value!s:>12}" for value in row.values()), flush=True)
    return rows


def judged(
    scores: NDArray[np.float32],
    plain: NDArray[np.float32],
    requests: Requests,
    prepared: Prepared,
    resampler: Resampler,
) -> tuple[str, Interval, Interval]:
    """AUC of a yes or no, NDCG at 10 of a ranking: with these scores, and beside the plain ones."""
    if requests.label is not None:
        mine, label = scores[:, 0], requests.label
        change = auc_interval(mine, label, resampler, plain[:, 0])
        return "auc", auc_interval(mine, label, resampler), change
    own, theirs = (
        ranking_metrics(target_ranks(one, requests), requests)["ndcg@10"] for one in (scores, plain)
    )
    return "ndcg@10", resampler.mean(own), resampler.mean(own - theirs)


def batching(
    member: TextMember, prepared: Prepared, requests: Requests, engine: Engine, runs: int
) -> list[dict[str, Any]]:
    """Texts a CPU second by count and by each budget, for some windows and longest texts."""
    rows = []
    for tokens in TOKENS:
        settings = member.writer.settings.model_copy(update={"max_tokens": tokens})
        writer = replace(member.writer, settings=settings)
        for days in WINDOWS:
            texts = writer.write(prepared.log, requests, Window(days=days))
            texts = framed(texts.take(np.flatnonzero(texts.lengths)), member.frame)
            row = {"tokens": tokens, "days": days, **compared(texts, member, engine, runs)}
            rows.append(row)
            print("".join(f"{value!s:>12}" for value in row.values()), flush=True)
    return rows


def compared(texts: TokenLists, member: TextMember, engine: Engine, runs: int) -> dict[str, Any]:
    rates = {}
    for budget in (None, *BUDGETS):
        batches = batches_of(texts, member, GATHERED, budget)
        cpu_s, _ = clock(run_all(engine, batches), runs)
        rates[budget] = len(texts) / cpu_s
        if budget is None:
            over = sum(ids.size for ids, _ in batches) / len(texts.ids)
    best = max(BUDGETS, key=lambda budget: rates[budget])
    return {
        "texts": len(texts),
        "p10": int(np.percentile(texts.lengths, 10)),
        "p50": int(np.percentile(texts.lengths, 50)),
        "p90": int(np.percentile(texts.lengths, 90)),
        "padded/real": round(over, 2),
        "by count": round(rates[None], 1),
        "by 128": round(rates[128], 1),
        "best": best,
        "128/count": round(rates[128] / rates[None], 2),
        "best/count": round(rates[best] / rates[None], 2),
    }


def text_member(run: RunDirectory) -> tuple[str, TextMember]:
    """The first text member of a run."""
    for directory in sorted((run.root / "members").iterdir()):
        member = load_member(directory) if (directory / "config.json").exists() else None
        if isinstance(member, TextMember):
            return directory.name, member
    raise SystemExit(f"{run.root} holds no text member: make the run with `make demo`.")


def main() -> None:
    parser = argparse.ArgumentParser(description="Engines and batches on a run's own requests.")
    parser.add_argument("run", type=Path, help="of a finished run with a text member")
    parser.add_argument("--quick", action="store_true", help="fewer requests, one round")
    options = parser.parse_args()
    run = RunDirectory(options.run)
    prepared = open_prepared(run)
    name, member = text_member(run)
    requests = prepared.requests[Block.TEST]
    torch.set_num_threads(THREADS)
    asked = requests.take(np.arange(min(len(requests), 1000 if options.quick else 4000)))
    timed = requests.take(np.arange(min(len(requests), 256 if options.quick else 1024)))
    with tempfile.TemporaryDirectory() as home:
        print(f"{name}, {len(asked)} test requests")
        titles = ("engine", "metric", "value", "change", "low", "high", "scores")
        print("".join(f"{title:>12}" for title in titles))
        engines = quality(member, prepared, asked, Path(home))
        engine = onnx_engine(member.network, int8=False, threads=THREADS, cache_dir=Path(home))
        titles = ("tokens", "days", "texts", "p10", "p50", "p90", "padded/real", "by count")
        print("".join(f"{t:>12}" for t in (*titles, "by 128", "best", "128/count", "best/count")))
        batches = batching(member, prepared, timed, engine, 1 if options.quick else 3)
    found = {"benchmark": "text_requests", "member": name, "engines": engines, "batches": batches}
    print(json.dumps(found | facts("torch", "onnxruntime", "numpy")))


if __name__ == "__main__":
    main()
