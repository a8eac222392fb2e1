"""Penchant's serving beside plain FastAPI with torch and LitServe: same weights, same histories.

    python benchmarks/serve_peers.py             # all cells, about 30 minutes
    python benchmarks/serve_peers.py --quick     # the main ones, short: about five minutes

Each server answers /v1/score about 16 films for recorded MovieLens-100K histories, with an ensemble
of four text members (MiniLM's lowest three layers), all on this machine. First the peers are loaded
by callers that wait for their answers, then Penchant, each once more in a second round, and all
again by arrivals at 60% of what the slowest can do; no server is measured while another one works.
A machine that others share has slow minutes: each row tells the sgemm of the second before it, and
a server's rate is the best that it had. LitServe is left out where it is not installed:
pip install -c constraints.txt litserve.

`ratio_fastapi` is Penchant's saturated rate over plain FastAPI's, `ratio_litserve_p99` LitServe's
99th percentile over Penchant's at equal load: above 1, Penchant is better. `flops_share` is the
arithmetic of its answers, without padding, over this machine's sgemm. `ratio_int8_fastapi` is the
rate with --engine onnx-int8, whose scores are others: it is held to no goal. A tiny network alone
is the cell where a server costs more than its model. Each goal has its verdict; the last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from peers.artefacts import (
    flops_per_request,
    prepare_movies,
    save_text,
    small_ensemble,
    text_ensemble,
)
from peers.bench import (
    DEADLINE_MS,
    FRESH,
    PATH,
    Bench,
    median_ms,
    print_head,
    whole_per_s,
    worst_ms,
)
from peers.goals import goals
from peers.page import renew, speed_table
from peers.repeated import repeated_ms
from peers.servers import HAS_LITSERVE, Server, running

from penchant.platform.errors import PenchantError, RunError
from penchant.platform.prepared import Prepared
from penchant.platform.requests import Requests
from penchant.serve.load.bodies import recorded_bodies
from penchant.serve.routes.stored import StoredRequests

CANDIDATES = 16
MANY = 64
MEMBERS = 4
SHARE = 0.6  # of the slowest server's rate, at which all are compared
PEERS = ("fastapi", "litserve") if HAS_LITSERVE else ("fastapi",)
OURS = ("penchant", "together")


def compare(bench: Bench, directory: Path, callers: Sequence[int], quick: bool) -> dict[str, Any]:
    """All servers on the text ensemble, one after the other, each alone on the machine."""
    best: dict[str, float] = {}
    found: dict[str, Any] = {}
    answers: dict[str, list[list[float]]] = {}
    asked = bench.fresh()[:3]
    for name in (*PEERS, *OURS):
        with running(name, directory) as server:
            answers[name] = scores_of(server, asked)
            cells = [bench.measure(server, f"{n} callers", callers=n) for n in callers]
            best[name] = max(whole_per_s(report) for report in cells)
            if name == OURS[-1]:
                found |= own_cells(bench, server, quick)
    refuse_unlike(answers)
    for name in (*PEERS, *OURS, "int8"):
        with running(name, directory) as server:
            again = bench.measure(server, f"{callers[-1]} callers, 2nd round", callers=callers[-1])
        best[name] = max(best.get(name, 0.0), whole_per_s(again))
    int8 = best.pop("int8")
    rate = equal_rate(best)
    tail: dict[str, float | None] = {}
    for name in (*PEERS, *OURS):
        with running(name, directory) as server:
            tail[name] = worst_ms(bench.measure(server, "equal load", rate=rate))
    ours = max(OURS, key=lambda name: best[name])
    return {
        "per_s": {name: round(rate, 2) for name, rate in best.items()},
        "layout": ours,
        "ratio_fastapi": ratio(best[ours], best["fastapi"]),
        "ratio_litserve": ratio(best[ours], best.get("litserve")),
        "ratio_int8_fastapi": ratio(int8, best["fastapi"]),
        "equal_load_per_s": round(rate, 2),
        "p99_ms": tail,
        "ratio_fastapi_p99": ratio(tail["fastapi"], tail[ours]),
        "ratio_litserve_p99": ratio(tail.get("litserve"), tail[ours]),
        "sgemm_gflops": max(cell["sgemm_gflops"] for cell in bench.cells.values()),
        **found,
    }


def of_different_moments(requests: Requests) -> Requests:
    """Without those whose user has the same history as in another one."""
    moments = np.stack([requests.user, requests.end], axis=1)
    return requests.take(np.sort(np.unique(moments, axis=0, return_index=True)[1]))


def equal_rate(best: Mapping[str, float]) -> float:
    """Requests per second at which all can be compared."""
    slowest = min(best, key=lambda name: best[name])
    if not best[slowest]:
        raise RunError(
            f"{slowest} answered nothing in the measured time, expected a rate to compare at. Is "
            "the machine busy with something else?"
        )
    return SHARE * best[slowest]


def own_cells(bench: Bench, ours: Server, quick: bool) -> dict[str, Any]:
    """One candidate and several at once, and users who come back."""
    took_ms = {}
    for number in (1, CANDIDATES, MANY):
        cell = f"1 caller, {number} candidate{'s' if number > 1 else ''}"
        report = bench.measure(ours, cell, bodies=bench.fresh(number), callers=1)
        took_ms[number] = median_ms(report)
    single_ms = took_ms[1]
    found = {
        "ratio_candidates": ratio(single_ms and CANDIDATES * single_ms, took_ms[CANDIDATES]),
        "ratio_many_candidates": ratio(single_ms and MANY * single_ms, took_ms[MANY]),
    }
    if quick:
        return found
    same = bench.fresh()[:8]
    again = bench.measure(ours, "8 callers, 8 users", bodies=same, callers=8)
    others = bench.measure(ours, "8 callers, new users", callers=8)
    return found | {"ratio_repeated": ratio(whole_per_s(again), whole_per_s(others))}


def alone(bench: Bench, directory: Path, names: Sequence[str], cell: str) -> dict[str, Any]:
    """Median milliseconds of one caller at each server."""
    found = {}
    for name in names:
        with running(name, directory) as server:
            found[name] = median_ms(bench.measure(server, cell, callers=1))
    return found


def scores_of(server: Server, bodies: Sequence[bytes]) -> list[list[float]]:
    """What a server answers to a few bodies."""
    headers = {"content-type": "application/json", "x-deadline-ms": str(DEADLINE_MS)}
    answers = []
    for body in bodies:
        response = httpx.post(server.url + PATH, content=body, headers=headers, timeout=60)
        response.raise_for_status()
        answers.append([result["score"] for result in response.json()["results"]])
    return answers


def refuse_unlike(answers: Mapping[str, list[list[float]]]) -> None:
    """Servers that do not answer alike are not compared."""
    first = next(iter(answers.values()))
    for name, scores in answers.items():
        if not np.allclose(scores, first, rtol=1e-3, atol=1e-3):
            raise RunError(f"{name} answers differently from the first: {scores} and {first}")


def ratio(over: float | None, under: float | None) -> float | None:
    return None if not over or not under else round(over / under, 2)


def run(folder: Path, quick: bool) -> dict[str, Any]:
    """All cells."""
    prepared: Prepared = prepare_movies(folder)
    save_text(prepared, MEMBERS if quick else 8)
    stored = StoredRequests.open(prepared.run.root)
    stored = replace(stored, requests=of_different_moments(stored.requests))
    bench = Bench(
        bodies=recorded_bodies(stored, PATH, candidates=MANY, limit=8 * FRESH),
        candidates=CANDIDATES,
        duration_s=4.0 if quick else 20.0,
        warmup_s=1.0 if quick else 3.0,
    )
    directory = text_ensemble(prepared, MEMBERS)
    flops = flops_per_request(prepared, directory)
    print_head()
    found = compare(bench, directory, (1, 32) if quick else (1, 8, 32), quick)
    found["gflop_per_request"] = round(flops / 1e9, 3)
    found["flops_share"] = round(
        found["per_s"][found["layout"]] * flops / (found["sgemm_gflops"] * 1e9), 3
    )
    if not quick:
        new_ms, again_ms = repeated_ms(directory, bench.fresh()[:20])
        found["ratio_repeated_members"] = ratio(new_ms, again_ms)
        tiny = small_ensemble(prepared)
        names = (*PEERS, "penchant")
        found["tiny_ms"] = alone(bench, tiny, names, "tiny network, 1 caller")
        found["fan_out_ms"] = {
            number: alone(
                bench,
                text_ensemble(prepared, number),
                ("fastapi", "penchant"),
                f"{number} members, 1 caller",
            )
            for number in (1, 2, 4, 8)
        }
    return found | {"cells": bench.cells}


def main() -> None:
    parser = argparse.ArgumentParser(description="Penchant, FastAPI and LitServe side by side.")
    parser.add_argument("--quick", action="store_true", help="fewer cells, shorter")
    parser.add_argument("--table", type=Path, help="page whose table of speed is renewed")
    args = parser.parse_args()
    if not HAS_LITSERVE:
        print("LitServe is left out. To compare: pip install -c constraints.txt litserve")
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = run(Path(folder), args.quick)
        except PenchantError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
    names = ("penchant", "torch", "ray", "fastapi", *(("litserve",) if HAS_LITSERVE else ()))
    versions = {name: metadata.version(name) for name in names}
    versions["python"] = platform.python_version()
    machine = {"cpus": os.cpu_count(), "load": os.getloadavg()[0]}
    facts = {"machine": machine, "versions": versions}
    for goal in goals(found, CANDIDATES):
        print(f"{goal.verdict:<13}{goal.text}: {goal.reached}, wanted {goal.wanted:g}")
    if args.table is not None:
        renew(args.table, "bench", speed_table(found, machine, MEMBERS, CANDIDATES))
    print(json.dumps({"benchmark": "serve_peers", **found, **facts}))


if __name__ == "__main__":
    main()
