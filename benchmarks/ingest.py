"""How fast events become a log, and how much memory that takes, as the input grows.

    python benchmarks/ingest.py             # 1, 5 and 20 million events as Parquet
    python benchmarks/ingest.py --quick     # 0.2, 0.5 and 1 million
    python benchmarks/ingest.py --csv 3     # and a CSV file of so many gigabytes, with text ids

Each log is made and read in a process of its own; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from shared.facts import facts

from penchant.platform.config import Data, Files
from penchant.platform.ingest import ingest

SIZES = (1_000_000, 5_000_000, 20_000_000)
QUICK_SIZES = (200_000, 500_000, 1_000_000)
NUM_ITEMS = 50_000
EVENTS_PER_USER = 100
COLUMNS = {"user": "user_id", "item": "item_id", "time": "at"}
CSV_CHUNK = 5_000_000


def generate(num_events: int, num_users: int, seed: int) -> pl.DataFrame:
    """Events in order of time: 2.5 years, few items with most of the events."""
    draw = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user_id": draw.integers(0, num_users, num_events),
            "item_id": (NUM_ITEMS * draw.random(num_events) ** 3).astype(np.int64),
            "at": np.sort(draw.integers(1_500_000_000, 1_580_000_000, num_events)),
        }
    )


def write_parquet(path: Path, num_events: int) -> None:
    generate(num_events, num_events // EVENTS_PER_USER, 0).write_parquet(path)


def write_csv(path: Path, gigabytes: float) -> None:
    """Text ids and times as ISO texts, until the file is so large."""
    with path.open("wb") as file:
        while file.tell() < gigabytes * 1e9:
            first = file.tell() == 0
            generate(CSV_CHUNK, 500_000, file.tell()).select(
                pl.format("user-{}", "user_id").alias("user_id"),
                pl.format("item-{}", "item_id").alias("item_id"),
                pl.from_epoch("at").dt.strftime("%Y-%m-%d %H:%M:%S"),
            ).write_csv(file, include_header=first)


def measure(path: Path) -> dict[str, Any]:
    """Ingest a file; runs in a process of its own, so that the peak is its own."""
    unit = "auto" if path.suffix == ".csv" else "s"
    data = Data(events=Files(paths=(str(path),), columns=COLUMNS, time_unit=unit))
    started, started_cpu = time.monotonic(), time.process_time()
    card = ingest(data, path.parent / "log", path.parent / "quarantine.parquet")
    seconds, cpu_s = time.monotonic() - started, time.process_time() - started_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts kilobytes
    return {
        "events": card["events"],
        "users": card["users"],
        "shards": len(card["shards"]),
        "input_mb": path.stat().st_size / 1e6,
        "seconds": seconds,
        "events_per_s": card["events"] / seconds,
        "events_per_cpu_s": card["events"] / cpu_s,
        "peak_mb": peak / 1e6,
        "bytes_per_event": peak / card["events"],
    }


def in_child(*arguments: str) -> str:
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def one_size(kind: str, size: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"events.{kind}"
        in_child("--write", str(path), size)
        row: dict[str, Any] = json.loads(in_child("--measure", str(path)))
        return row


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory of ingest.")
    parser.add_argument("--quick", action="store_true", help="small logs, under a minute")
    parser.add_argument("--csv", type=float, metavar="GB", help="also a CSV file of this size")
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        path, size = Path(arguments.write[0]), arguments.write[1]
        write_csv(path, float(size)) if path.suffix == ".csv" else write_parquet(path, int(size))
        return
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    rows = []
    head = ("input MB", "seconds", "events/s", "peak MB", "B/event")
    print(f"{'events':>12}" + "".join(f"{name:>11}" for name in head))
    runs = [("parquet", str(size)) for size in (QUICK_SIZES if arguments.quick else SIZES)]
    for kind, size in runs + ([("csv", str(arguments.csv))] if arguments.csv else []):
        row = {"kind": kind, **one_size(kind, size)}
        rows.append(row)
        print(
            f"{row['events']:>12,}{row['input_mb']:>11.0f}{row['seconds']:>11.2f}"
            f"{row['events_per_s']:>11,.0f}{row['peak_mb']:>11.0f}{row['bytes_per_event']:>11.0f}",
            flush=True,
        )
    print(json.dumps(summary(rows)))


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Key figures of the largest Parquet log; `ratio` is its speed over that of the smallest."""
    parquet = [row for row in rows if row["kind"] == "parquet"]
    small, large = parquet[0], parquet[-1]
    growth = (large["peak_mb"] - small["peak_mb"]) * 1e6 / (large["events"] - small["events"])
    return {
        "benchmark": "ingest",
        "events_per_s": round(large["events_per_s"]),
        "events_per_cpu_s": round(large["events_per_cpu_s"]),
        "bytes_per_event": round(large["bytes_per_event"], 1),
        "bytes_per_further_event": round(growth, 1),
        "ratio": round(large["events_per_s"] / small["events_per_s"], 3),
        "runs": rows,
        **facts("polars", "pyarrow"),
    }


if __name__ == "__main__":
    main()
