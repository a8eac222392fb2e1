"""The README's result table, from a run: python benchmarks/result_table.py RUN_DIR.

Of members of one kind and window it shows the one that is best on `select`; the report has all.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["markdown"]


def markdown(report: Mapping[str, Any]) -> str:
    """Members and ensembles as a Markdown table, members best on `select` first."""
    metric = report["metric"]
    lines = [
        f"| model | {metric.upper()} on test [95%] | own items | new items | train s | score ms |",
        "|---|---|---|---|---|---|",
    ]
    shown: set[tuple[str, str]] = set()
    for member in report["members"]:
        group = (member["kind"], json.dumps(member["window"]))
        if group in shown:
            continue
        shown.add(group)
        test = member["test"]
        star = " **(best single)**" if member["id"] == report["best_single"] else ""
        lines.append(
            f"| `{member['id']}`{star} | {_interval(test[metric])} | {_split(test, metric)} | "
            f"{member['train_s']:.0f} | {member['score_ms']:.1f} |"
        )
    for ensemble in report["ensembles"]:
        test, difference = ensemble["test"], ensemble["difference_to_best_single"][metric]
        lines.append(
            f"| ensemble `{ensemble['name']}` of {len(ensemble['weights'])}, "
            f"{difference['mean']:+.4f} [{difference['low']:+.4f}, {difference['high']:+.4f}] | "
            f"{_interval(test[metric])} | {_split(test, metric)} | | |"
        )
    return "\n".join([*lines, "", report["verdict"]])


def _interval(value: Mapping[str, float]) -> str:
    return f"{value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"


def _split(test: Mapping[str, Any], metric: str) -> str:
    values = [test.get(f"{metric}/{part}", {}).get("mean") for part in ("repeat", "explore")]
    return " | ".join("" if value is None else f"{value:.3f}" for value in values)


if __name__ == "__main__":
    print(markdown(json.loads((Path(sys.argv[1]) / "report" / "report.json").read_text())))
