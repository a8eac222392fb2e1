"""Tables between two marks of a page, so that it shows what was measured last."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peers.goals import Goal, goals

__all__ = ["renew", "speed_table"]


def renew(page: Path, name: str, lines: Sequence[str]) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- /name -->`.

    Raises:
        ValueError: the page has no such marks.
    """
    text = page.read_text()
    begin, end = text.index(f"<!-- {name} -->"), text.index(f"<!-- /{name} -->")
    begin += len(f"<!-- {name} -->")
    page.write_text("\n".join([text[:begin], "", *lines, "", text[end:]]))


def speed_table(
    found: Mapping[str, Any], machine: Mapping[str, Any], members: int, candidates: int
) -> list[str]:
    """The cells of `serve_peers.py` as Markdown, and what follows from them."""
    rows = [
        "| server and cell | answers/s | p50 ms | p99 ms | CPUs | sgemm before, GFLOP/s |",
        "|---|---|---|---|---|---|",
    ]
    for name, cell in found["cells"].items():
        latency, cost = cell["latency_ms"], cell["server"]
        times = "- | -" if latency is None else f"{latency['p50']:.1f} | {latency['p99']:.1f}"
        rows.append(
            f"| {name} | {cell['requests_per_s']:.1f} | {times} | {cost['cpus']:.2f} "
            f"| {cell['sgemm_gflops']:.0f} |"
        )
    return [
        f"{members} MiniLM members of 3 layers on MovieLens histories, {candidates} candidates, "
        f"{found['gflop_per_request']} GFLOP a request; {machine['cpus']} CPUs shared with the "
        f"load generator, {found['sgemm_gflops']} GFLOP/s sgemm; {time.strftime('%Y-%m-%d')}. "
        "`penchant` has each member in a process of its own, `together` all of them in each of "
        "two processes. All servers but `int8` gave equal scores, each ran alone, and no history "
        "was sent twice to one, but where users come back.",
        "",
        *rows,
        "",
        f"Ours is `{found['layout']}`; p99 is compared at {found['equal_load_per_s']} requests/s. "
        f"Answers/s over LitServe's: {found['ratio_litserve']}; p99 of FastAPI over ours: "
        f"{found['ratio_fastapi_p99']}. With `--engine onnx-int8`, whose scores are not the same, "
        f"{found['ratio_int8_fastapi']} times FastAPI's answers/s. 64 requests of one candidate "
        f"cost {found['ratio_many_candidates']} times one of 64. Users who come back are spared "
        "the members' work and not the way over HTTP, so that both are told.",
        "",
        "| goal | reached | wanted | |",
        "|---|---|---|---|",
        *(_verdict(goal) for goal in goals(found, candidates)),
    ]


def _verdict(goal: Goal) -> str:
    reached = "-" if goal.reached is None else f"{goal.reached:.2f}"
    told = "**missed**" if goal.verdict == "MISSED" else goal.verdict
    return f"| {goal.text} | {reached} | {goal.wanted:g} | {told} |"
