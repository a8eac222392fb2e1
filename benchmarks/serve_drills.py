"""Hurts a served ensemble in every way that its service owner fears, and says what happened.

    python benchmarks/serve_drills.py runs/demo                  # about 40 minutes, with the soak
    python benchmarks/serve_drills.py runs/demo --quick          # two minutes
    python benchmarks/serve_drills.py runs/demo --table docs/serving.md

The run must have been compared: two of its ensembles take turns. Each row says what was promised
and whether it was kept; a row without a promise is measured only. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from drills import changes, failures
from drills.load import saturation
from drills.nodes import lose_node, lose_store
from drills.scaling import scale
from drills.served import Served, served
from drills.truth import offline_is_online
from peers.page import renew

from penchant.ensembles.artefacts.artefact import read_ensemble_card
from penchant.serve.load.bodies import recorded_bodies
from penchant.serve.routes.stored import StoredRequests

Row = dict[str, Any]


def ensembles(run: Path) -> tuple[Path, Path]:
    """Two artefacts of a run, the smallest that have at least two members."""
    sizes = {
        path: len(read_ensemble_card(path)["weights"])
        for path in sorted((run / "ensembles").iterdir())
        if (path / "ensemble.json").is_file()
    }
    fit = sorted((path for path in sizes if sizes[path] > 1), key=lambda path: sizes[path])
    if len(fit) < 2:
        raise SystemExit(f"{run} has {len(fit)} ensembles of several members, expected two")
    return fit[0], fit[1]


def drills(
    service: Served, run: Path, other: Path, temp: Path, bodies: Sequence[bytes], quick: bool
) -> list[tuple[str, Callable[[], Any]]]:
    """Every drill on one running service, in an order in which none spoils the next."""
    peak = saturation(service.url, bodies, callers=8, duration_s=4 if quick else 10)
    rate = peak.requests_per_s / 3  # others need the machine too
    kinds = ("wrong hash",) if quick else ("wrong hash", "fails its self-test", "crashes at start")
    bad = [
        changes.spoiled(service.directory, temp / f"bad-{at}", how) for at, how in enumerate(kinds)
    ]
    long_s = 60.0 if quick else max(180.0, 10_500 / rate)
    return [
        ("law 4", lambda: offline_is_online(service, run, 50 if quick else 1000)),
        ("same user", lambda: changes.same_user_at_once(service, bodies[0])),
        ("update", lambda: changes.update(service, other, bad, bodies, rate, long_s)),
        ("canary", lambda: changes.canary(service, other, bodies, rate)),
        ("straggler", lambda: failures.straggle(service, bodies, rate)),
        ("kill", lambda: failures.kill_member(service, bodies, rate)),
        ("stop", lambda: failures.stop_member(service, bodies, rate)),
        ("all down", lambda: failures.kill_all(service, bodies)),
        ("leave", lambda: failures.leave(service, bodies, 100 if quick else 1000)),
        ("overload", lambda: changes.overload(service, bodies, 10 if quick else 30)),
        *([] if quick else [("soak", lambda: changes.soak(service, bodies, 900))]),
        ("others", lambda: failures.kill_others(service, bodies, rate)),
    ]


def alone(
    directory: Path, temp: Path, bodies: Sequence[bytes]
) -> list[tuple[str, Callable[[], Any]]]:
    """Drills that want a Ray of their own."""
    return [
        ("scaling", lambda: scale(directory, temp / "scaled", bodies, busy_s=45, idle_s=180)),
        ("node", lambda: lose_node(directory, temp / "nodes", bodies, 5.0)),
        ("store", lambda: lose_store(directory, temp / "store", bodies, 5.0, kept=False)),
        ("kept store", lambda: lose_store(directory, temp / "kept", bodies, 5.0, kept=True)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run that was compared")
    parser.add_argument("--quick", action="store_true", help="shorter, fewer requests")
    parser.add_argument("--only", action="append", help="one drill by its name; may be repeated")
    parser.add_argument("--table", type=Path, help="page whose table of drills is renewed")
    args = parser.parse_args()
    directory, other = ensembles(args.run)
    bodies = recorded_bodies(StoredRequests.open(args.run), "/v1/recommend", limit=500)
    rows: list[Row] = []

    def keep(name: str, drill: Callable[[], Any]) -> None:
        if args.only and name not in args.only:
            return
        began = time.monotonic()
        made = drill()
        for row in made if isinstance(made, list) else [made]:
            rows.append(row)
            print(f"[{time.monotonic() - began:5.0f} s] {line(row)}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        temp = Path(folder)
        if not args.only or set(args.only) - {name for name, _ in alone(directory, temp, bodies)}:
            with served(directory, temp / "service", "--placement", "apart") as service:
                for name, drill in drills(service, args.run, other, temp, bodies, args.quick):
                    keep(name, drill)
        for name, drill in alone(directory, temp, bodies):
            if not args.quick:
                keep(name, drill)
    facts = {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "ray": metadata.version("ray"),
        "kept": sum(row["met"] is True for row in rows),
        "broken": [row["drill"] for row in rows if row["met"] is False],
    }
    if args.table is not None:
        renew(args.table, "drills", table(rows, directory, quick=args.quick))
    print(json.dumps({"drills": rows, **facts}))
    if facts["broken"]:
        sys.exit(1)


def line(row: Row) -> str:
    """A row for people."""
    kept = {True: "kept", False: "BROKEN", None: "measured"}[row["met"]]
    return (
        f"{kept:8}  {row['drill']}: {row['requests']} requests, {row['failed']} failed, "
        f"{row['degraded']} degraded; {row['result']}"
    )


def table(rows: Sequence[Row], directory: Path, *, quick: bool) -> list[str]:
    """The rows as Markdown."""
    lines = [
        f"`{directory.name}` of {len(read_ensemble_card(directory)['weights'])} members, each in a "
        f"process of its own; {os.cpu_count()} CPUs shared with the load generator; "
        f"{time.strftime('%Y-%m-%d')}{', `--quick`: few requests, no soak' if quick else ''}.",
        "",
        "| drill | requests | failed | degraded | what happened | promise |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        kept = {True: "kept", False: "**broken**", None: "none: measured"}[row["met"]]
        lines.append(
            f"| {row['drill']} | {row['requests']:,} | {row['failed']:,} | {row['degraded']:,} | "
            f"{row['result']} | {kept} |"
        )
    return lines


if __name__ == "__main__":
    main()
