"""Tables between two marks of a page, so that it shows what was measured last."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


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
    rows = ["| server and cell | answers/s | p50 ms | p99 ms | CPUs |", "|---|---|---|---|---|"]
    for name, cell in found["cells"].items():
        latency, cost = cell["latency_ms"], cell["server"]
        times = "- | -" if latency is None else f"{latency['p50']:.1f} | {latency['p99']:.1f}"
        rows.append(f"| {name} | {cell['requests_per_s']:.1f} | {times} | {cost['cpus']:.2f} |")
    lines = [
        f"{members} MiniLM members of 3 layers on MovieLens histories, {candidates} candidates, "
        f"{found['gflop_per_request']} GFLOP a request; {machine['cpus']} CPUs shared with the "
        f"load generator, {found['sgemm_gflops']} GFLOP/s sgemm; {time.strftime('%Y-%m-%d')}. "
        "`penchant` has each member in a process of its own, `together` all of them in each of "
        "two processes. All servers gave equal scores, each ran alone, and no history was sent "
        "twice to one, but where users come back.",
        "",
        *rows,
        "",
        f"- Answers/s over FastAPI: **{found['ratio_fastapi']}**"
        f"{_goal(found['ratio_fastapi'], 2)}, over LitServe: "
        f"{found['ratio_litserve']} (`{found['layout']}`).",
        f"- p99 at equal load ({found['equal_load_per_s']}/s) over ours: FastAPI "
        f"{found['ratio_fastapi_p99']}, LitServe {found['ratio_litserve_p99']}"
        f"{_goal(found['ratio_litserve_p99'], 1)}.",
        f"- Served arithmetic over sgemm: **{found['flops_share']:.2f}**"
        f"{_goal(found['flops_share'], 0.3)}.",
        f"- {candidates} single requests cost {found['ratio_candidates']} times one request with "
        f"{candidates} candidates{_goal(found['ratio_candidates'], 3)}.",
    ]
    if found.get("ratio_repeated"):
        cost = found["ratio_repeated_members"]
        lines.append(
            f"- Users who come back cost the members 1/{cost} of what others cost{_goal(cost, 5)}; "
            f"over HTTP they are answered {found['ratio_repeated']} times as fast, since the way "
            "costs the same."
        )
    return lines


def _goal(reached: float | None, wanted: float) -> str:
    """Whether a ratio is what was wanted, in words."""
    if reached is None:
        return ""
    return f" ({wanted} wanted: {'met' if reached >= wanted else '**missed**'})"
