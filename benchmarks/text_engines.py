"""Which engine runs a text member fastest on this CPU, and how texts should share batches.

    python benchmarks/text_engines.py            # some minutes
    python benchmarks/text_engines.py --quick    # three layers on one thread, under a minute

Histories are MovieLens-100K's, as text of up to 128 tokens: users asked after their k-th rating, k
drawn from a geometric law of mean 4, so that lengths are skewed. The model is MiniLM; its weights
do not matter for speed, nor its heads. Times are CPU seconds, which other work on the machine
disturbs less than the clock; wall times are the best of some runs. Prints tables; the last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from penchant.platform.config import load_experiment
from penchant.platform.item_tokens import TokenLists
from penchant.platform.language_models import load_tokenizer
from penchant.platform.prepared import Prepared, prepare
from penchant.platform.recipes import TextRecipe
from penchant.platform.requests import Requests
from penchant.platform.store import RunDirectory
from penchant.platform.text_recipes import HistoryText
from penchant.platform.timeline import Block
from penchant.trainers.fit import learned_from
from penchant.trainers.text.batches import filled, framed, like_lengths
from penchant.trainers.text.engine import Engine
from penchant.trainers.text.model import TextMember, item_tower
from penchant.trainers.text.network import TextNetwork, build_network
from penchant.trainers.text.onnx_engine import onnx_engine
from penchant.trainers.text.reading import TorchEngine
from penchant.trainers.text.words import read_words

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "movies.yaml"
RECIPE = TextRecipe(kind="text", layers=3, history=HistoryText(max_tokens=128, values=True))
GATHERED = 16  # requests that a replica scores together
BUDGETS, QUICK_BUDGETS = (64, 128, 256, 512, 1024, 2048, 4096), (128, 256, 512)
Batch = tuple[Any, Any]  # ids and mask


def skewed(prepared: Prepared, count: int) -> Requests:
    """`count` users' requests in random order, each after the user's k-th event."""
    log, draw = prepared.log, np.random.default_rng(0)
    user = draw.integers(0, log.num_users, count).astype(np.int32)
    after = np.minimum(draw.geometric(0.25, count), np.diff(log.offsets)[user] - 1)
    end = log.offsets[user] + after
    return Requests(
        row=end,
        user=user,
        time_ms=log.time_ms[end] + 1,
        end=end,
        target_offsets=np.zeros(count + 1, dtype=np.int64),
        target=np.zeros(0, dtype=np.int32),
        target_seen=np.zeros(0, dtype=np.bool_),
    )


def clock(work: Callable[[], object], runs: int) -> tuple[float, float]:
    """CPU seconds (median) and wall seconds (least) of a piece of work."""
    work()
    cpu_s, wall_s = [], []
    for _ in range(runs):
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        cpu_s.append(time.process_time() - cpu)
        wall_s.append(time.perf_counter() - wall)
    return float(np.median(cpu_s)), min(wall_s)


def flops(texts: TokenLists, network: TextNetwork) -> float:
    """Of the matrix products over real tokens: what padding costs is not useful work."""
    config, tokens = network.base.config, texts.lengths.astype(float)
    linear = 2 * (4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size)
    attention = 4 * config.hidden_size * tokens
    return float(config.num_hidden_layers * (tokens * (linear + attention)).sum())


def sgemm(runs: int) -> tuple[float, float]:
    """FLOP/s of a product of two 1024 x 1024 matrices, by CPU and by wall time."""
    side = torch.ones(1024, 1024)
    cpu_s, wall_s = clock(lambda: side @ side, runs)
    return 2 * 1024**3 / cpu_s, 2 * 1024**3 / wall_s


def run_all(engine: Engine, batches: Sequence[Batch]) -> Callable[[], None]:
    def work() -> None:
        for ids, mask in batches:
            engine(ids, mask)

    return work


def compare_engines(
    network: TextNetwork, texts: TokenLists, member: TextMember, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Engines x threads x requests at once; batches are of like lengths, as they are served."""
    rows = []
    layers = network.base.config.num_hidden_layers
    for threads in (1,) if options.quick else (1, 2):
        torch.set_num_threads(threads)
        engines: list[Engine] = [TorchEngine(network)]
        engines += [
            onnx_engine(network, int8=int8, threads=threads, cache_dir=options.cache)
            for int8 in (False, True)
        ]
        for gathered in (1, GATHERED):
            cpu_flops, wall_flops = sgemm(5)
            for engine in engines:
                batches = batches_of(texts, member, gathered, engine.batch_tokens)
                cpu_s, wall_s = clock(run_all(engine, batches), 1 if options.quick else 3)
                useful = flops(texts, network)
                row = {
                    "layers": layers,
                    "threads": threads,
                    "gathered": gathered,
                    "engine": engine.name,
                    "texts_per_cpu_s": round(len(texts) / cpu_s, 1),
                    "texts_per_s": round(len(texts) / wall_s, 1),
                    "gflops_per_cpu_s": round(useful / cpu_s / 1e9, 1),
                    "sgemm_gflops_per_cpu_s": round(cpu_flops / 1e9, 1),
                    "flops_share": round(useful / cpu_s / cpu_flops, 2),
                    "flops_share_wall": round(useful / wall_s / wall_flops, 2),
                }
                rows.append(row)
                print("".join(f"{value!s:>11}" for value in row.values()), flush=True)
    return rows


def batches_of(
    texts: TokenLists, member: TextMember, gathered: int, budget: int | None
) -> list[Batch]:
    """Texts in order of arrival, so many gathered at a time, cut by a budget or not at all."""
    found = []
    for begin in range(0, len(texts), gathered):
        rows = np.arange(begin, min(begin + gathered, len(texts)))
        lengths = texts.lengths[rows]
        for at in [np.arange(len(rows))] if budget is None else like_lengths(lengths, budget):
            text = filled(texts.take(rows[at]), member.frame)
            found.append((text.ids.numpy(), text.mask.numpy()))
    return found


def compare_batches(
    engines: Sequence[Engine],
    texts: TokenLists,
    member: TextMember,
    budgets: Sequence[int],
    runs: int,
) -> list[dict[str, Any]]:
    rows = []
    for budget in (None, *budgets):
        batches = batches_of(texts, member, GATHERED, budget)
        row: dict[str, Any] = {
            "budget": budget or "by count",
            "batches": len(batches),
            "padded_over_real": round(sum(i.size for i, _ in batches) / len(texts.ids), 2),
        }
        for engine in engines:
            row[engine.name] = round(len(texts) / clock(run_all(engine, batches), runs)[0], 1)
        rows.append(row)
        print("".join(f"{value!s:>18}" for value in row.values()), flush=True)
    return rows


def request_shares(
    member: TextMember, prepared: Prepared, requests: Requests, cache: Path
) -> dict[str, float]:
    """CPU milliseconds of one request alone: the whole, the model's pass, and a repeat."""
    member = member.on_engine("onnx", threads=1, cache_dir=cache)
    texts = framed(member.writer.write(prepared.log, requests, RECIPE.window), member.frame)
    ones = [requests.take(np.array([at])) for at in range(len(requests))]

    def score() -> None:
        for one in ones:
            member.score(prepared.log, one)

    def fresh() -> None:
        if member.cache is not None:
            member.cache.clear()
        score()

    def write() -> None:
        for one in ones:
            member.writer.write(prepared.log, one, RECIPE.window)

    passes = run_all(member.engine or TorchEngine(member.network), batches_of(texts, member, 1, 1))
    parts = {"whole": fresh, "model": passes, "writing": write, "repeated": score}
    return {
        f"{name}_ms": round(clock(work, 2)[0] / len(ones) * 1000, 3) for name, work in parts.items()
    }


def member_of(prepared: Prepared) -> TextMember:
    past = learned_from(prepared, prepared.blocks.span_ms(Block.TEST)[0])
    network = build_network(RECIPE, binary=False).eval()
    words = read_words(RECIPE, past, network.base.config)
    return TextMember(
        recipe=RECIPE,
        network=network,
        writer=words.writer,
        frame=words.frame,
        tower=item_tower(network, words.writer, words.frame, words.log_share),
        tokenizer=load_tokenizer(RECIPE.base),
        facts={},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Engines and batches of text members on a CPU.")
    parser.add_argument("--quick", action="store_true", help="under a minute")
    options = parser.parse_args()
    count, runs = (64, 1) if options.quick else (256, 3)
    with tempfile.TemporaryDirectory() as home:
        options.cache = Path(home) / "engines"
        prepared = prepare(load_experiment(EXAMPLE, ()), RunDirectory(Path(home) / "run"), print)
        torch.set_num_threads(1)
        member, requests = member_of(prepared), skewed(prepared, count)
        texts = framed(member.writer.write(prepared.log, requests, RECIPE.window), member.frame)
        print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load {os.getloadavg()[0]:.1f}")
        print("tokens a text:", np.percentile(texts.lengths, [0, 10, 50, 90, 100]).tolist())
        titles = ("layers", "threads", "gathered", "engine", "texts/CPUs", "texts/s", "GFLOP/CPUs")
        print("".join(f"{t:>11}" for t in (*titles, "sgemm", "share", "share wall")))
        engines = compare_engines(member.network, texts, member, options)
        if not options.quick:
            deep = build_network(RECIPE.model_copy(update={"layers": None}), binary=False).eval()
            engines += compare_engines(deep, texts, member, options)
        torch.set_num_threads(1)
        print("".join(f"{t:>18}" for t in ("budget", "batches", "padded/real", "torch", "onnx")))
        pair = (
            TorchEngine(member.network),
            onnx_engine(member.network, int8=False, threads=1, cache_dir=options.cache),
        )
        batches = compare_batches(
            pair, texts, member, QUICK_BUDGETS if options.quick else BUDGETS, runs
        )
        shares = request_shares(member, prepared, requests.take(np.arange(32)), options.cache)
    print(json.dumps(summary(engines, batches, shares)))


def summary(
    engines: list[dict[str, Any]], batches: list[dict[str, Any]], shares: dict[str, float]
) -> dict[str, Any]:
    """Ratios of CPU time on one thread with three layers, and all rows."""
    alone = {r["engine"]: r for r in engines[:3]}
    together = {r["engine"]: r for r in engines if r["gathered"] == GATHERED and r["threads"] == 1}
    budget = {r["budget"]: r for r in batches}

    def ratio(rows: dict[str, dict[str, Any]], one: str, other: str) -> float:
        return round(rows[one]["texts_per_cpu_s"] / rows[other]["texts_per_cpu_s"], 2)

    def budgeted(tokens: int, engine: str) -> float:
        return round(budget[tokens][engine] / budget["by count"][engine], 2)

    return {
        "benchmark": "text_engines",
        "flops_share": alone["onnx"]["flops_share"],
        "torch_flops_share": alone["torch"]["flops_share"],
        "onnx_over_torch": ratio(alone, "onnx", "torch"),
        "onnx_over_torch_gathered": ratio(together, "onnx", "torch"),
        "int8_over_onnx": ratio(alone, "onnx-int8", "onnx"),
        "token_budget_over_count": budgeted(128, "onnx"),
        "token_budget_over_count_torch": budgeted(256, "torch"),
        "request": shares,
        "engines": engines,
        "batches": batches,
        "machine": {"system": platform.platform(), "load": os.getloadavg()[0]},
        "versions": {
            name: metadata.version(name)
            for name in ("penchant", "torch", "onnxruntime", "transformers", "numpy")
        },
    }


if __name__ == "__main__":
    main()
