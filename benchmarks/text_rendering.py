"""How many histories a second are written as token ids, on one core.

    python benchmarks/text_rendering.py                   # drawn logs
    python benchmarks/text_rendering.py --quick           # fewer histories, under a minute
    python benchmarks/text_rendering.py --log RUN_DIR/log # and a log that `penchant` prepared

Prints a table; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from shared.facts import facts

from penchant.platform.events import Catalog, EventLog
from penchant.platform.history import history_of
from penchant.platform.language_models import resolve_model
from penchant.platform.requests import Requests
from penchant.platform.text import HistoryWriter, tokenizer_pieces
from penchant.platform.text_recipes import HistoryText
from penchant.platform.timeline import DAY_MS, Window

HISTORIES, QUICK_HISTORIES = 200_000, 50_000
EVENTS = 20
NUM_ITEMS = 20_000
REPEATS = 9
NOW_MS = 1_600_000_000_000
NOUNS = ("milk", "bread", "soap", "tea", "coffee", "apple", "cheese", "rice", "oil", "pasta")
KINDS = ("whole", "fresh", "green", "organic", "dark", "frozen", "sliced", "salted", "sweet")
CASES = {
    "as shipped": HistoryText(),
    "newest first, values": HistoryText(order="newest_first", values=True),
    "512 tokens": HistoryText(max_tokens=512),
    "half to the candidate": HistoryText(relevant_share=0.5),
}


def drawn_texts() -> list[str]:
    draw = np.random.default_rng(1)
    kinds, nouns = draw.choice(KINDS, (NUM_ITEMS, 2)), draw.choice(NOUNS, NUM_ITEMS)
    return [f"{one} {two} {noun}" for (one, two), noun in zip(kinds, nouns, strict=True)]


def drawn_log(users: int) -> EventLog:
    """`EVENTS` events a user over a year, few items with most of the events."""
    draw = np.random.default_rng(0)
    time_ms = np.sort(draw.integers(NOW_MS - 365 * DAY_MS, NOW_MS, (users, EVENTS)), axis=1)
    return EventLog(
        item=(NUM_ITEMS * draw.random(users * EVENTS) ** 3).astype(np.int32),
        time_ms=time_ms.ravel(),
        kind=np.zeros(users * EVENTS, dtype=np.int8),
        value=draw.integers(0, 11, users * EVENTS).astype(np.float32) / 2,
        group=None,
        offsets=np.arange(users + 1, dtype=np.int64) * EVENTS,
        num_items=NUM_ITEMS,
    )


def one_a_user(log: EventLog, count: int) -> Requests:
    """Requests after everything that a user did; users come again until there are `count`."""
    user = np.sort(np.arange(count) % log.num_users).astype(np.int32)
    end = log.offsets[user + 1]
    return Requests(
        row=end,
        user=user,
        time_ms=log.time_ms[np.maximum(end - 1, 0)] + DAY_MS,
        end=end,
        target_offsets=np.zeros(count + 1, dtype=np.int64),
        target=np.zeros(0, dtype=np.int32),
        target_seen=np.zeros(0, dtype=np.bool_),
    )


def measure(
    name: str, log: EventLog, texts: list[str], settings: HistoryText, requests: Requests
) -> dict[str, Any]:
    """Median of some passes, in CPU time too; the writer and its first call are not counted."""
    if settings.relevant_share:
        candidate = np.random.default_rng(2).integers(0, log.num_items, len(requests))
        requests = replace(requests, candidate=candidate.astype(np.int32))
    started = time.perf_counter()
    writer = HistoryWriter.make(settings, texts, ["event"], pieces())
    make_s = time.perf_counter() - started
    writer.write(log, requests.take(np.arange(10)), Window())
    wall_s, cpu_s = [], []
    for _ in range(REPEATS):
        started, started_cpu = time.perf_counter(), time.process_time()
        lists = writer.write(log, requests, Window())
        wall_s.append(time.perf_counter() - started)
        cpu_s.append(time.process_time() - started_cpu)
    taken_s = float(np.median(wall_s))
    events = len(history_of(log, requests, Window()).row) / len(requests)
    return {
        "case": name,
        "histories": len(requests),
        "events_each": round(events, 1),
        "tokens_each": round(len(lists.ids) / len(requests), 1),
        "make_s": round(make_s, 2),
        "histories_per_s": round(len(requests) / taken_s),
        "slowest_per_s": round(len(requests) / max(wall_s)),
        "histories_per_cpu_s": round(len(requests) / float(np.median(cpu_s))),
    }


def pieces() -> Any:
    from transformers import AutoTokenizer

    directory = resolve_model("minilm")
    return tokenizer_pieces(AutoTokenizer.from_pretrained(directory, local_files_only=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of writing histories as text.")
    parser.add_argument("--quick", action="store_true", help="fewer histories, under a minute")
    parser.add_argument("--log", type=Path, help="also measure this prepared log")
    arguments = parser.parse_args()
    count = QUICK_HISTORIES if arguments.quick else HISTORIES
    log, texts = drawn_log(count), drawn_texts()
    runs = [(name, log, texts, chosen, count) for name, chosen in CASES.items()]
    if arguments.log:
        own, names = EventLog.open(arguments.log), Catalog.open(arguments.log).item_texts
        runs += [(f"log: {n}", own, names, chosen, count // 10) for n, chosen in CASES.items()]
    head = ("histories", "events", "tokens", "make s", "histories/s", "slowest/s", "per CPU s")
    print(f"{'case':<28}" + "".join(f"{title:>13}" for title in head))
    rows = []
    for name, source, names, chosen, wanted in runs:
        row = measure(name, source, names, chosen, one_a_user(source, wanted))
        rows.append(row)
        print(
            f"{name:<28}{row['histories']:>13,}{row['events_each']:>13.1f}"
            f"{row['tokens_each']:>13.1f}{row['make_s']:>13.2f}{row['histories_per_s']:>13,}"
            f"{row['slowest_per_s']:>13,}{row['histories_per_cpu_s']:>13,}",
            flush=True,
        )
    print(json.dumps(summary(rows)))


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of the first case, and all runs."""
    return {
        "benchmark": "text_rendering",
        "histories_per_s": rows[0]["histories_per_s"],
        "runs": rows,
        **facts("numpy", "transformers"),
    }


if __name__ == "__main__":
    main()
