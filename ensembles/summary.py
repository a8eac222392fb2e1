"""report.json: the public record of a run, put together from the store and the comparison."""

from __future__ import annotations

import json
import platform as system
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from penchant.ensembles.artefacts.artefact import save_ensemble
from penchant.ensembles.combinations.combination import Combination
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.comparing.comparison import Comparison
from penchant.ensembles.comparing.findings import ensemble_json, findings
from penchant.ensembles.comparing.verdict import verdict
from penchant.ensembles.promises.assurance import Promised
from penchant.platform.cluster import cpu_budget
from penchant.platform.describe import describe
from penchant.platform.ensemble_settings import SINGLE
from penchant.platform.events import read_log_card
from penchant.platform.intervals import Interval
from penchant.platform.metrics import sign_of
from penchant.platform.prepared import Prepared
from penchant.trainers.member import read_card

__all__ = ["build_report", "combinations_of", "save_artefacts"]

_VERSIONS = ("penchant", "ray", "deepspeed", "torch", "polars", "lightgbm", "numpy")


def build_report(
    prepared: Prepared,
    comparison: Comparison,
    refitted: Mapping[str, Mapping[str, Interval]],
    seconds: Mapping[str, float],
    peak_bytes: int,
) -> dict[str, Any]:
    """The report as `docs/report.schema.json` describes it.

    Args:
        refitted: test metrics of members that were refitted, by the id of the refit.
        seconds: time of each stage of the run.
        peak_bytes: most memory that the run held, over all its processes.
    """
    experiment, requests = prepared.experiment, prepared.requests
    report: dict[str, Any] = {
        "schema": 1,
        "name": experiment.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "task": experiment.requests.task,
        "metric": experiment.requests.metric,
        "data": describe(prepared.log, prepared.catalog, read_log_card(prepared.run.log)),
        "blocks": prepared.blocks.to_json(),
        "requests": {
            **{str(block): len(asked) for block, asked in requests.items()},
            "users": {str(b): len(set(asked.user.tolist())) for b, asked in requests.items()},
        },
        "members": [
            *(_member(prepared, comparison, name, test) for name, test in _ranked(comparison)),
            *(_member(prepared, comparison, name, test) for name, test in refitted.items()),
        ],
        "best_single": comparison.best_single,
        "ensembles": [ensemble_json(comparison.metric, found) for found in comparison.candidates],
        **findings(comparison),
        "recommended": comparison.choice,
        "machine": _machine(),
        "versions": {name: metadata.version(name) for name in _VERSIONS},
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "peak_memory_mb": round(peak_bytes / 2**20, 1),
    }
    report["verdict"] = verdict(comparison)
    return report


def combinations_of(comparison: Comparison) -> dict[str, Combination]:
    """Every combination, and under `SINGLE` the single member that would be shipped alone."""
    alone = Linear(normalization="none", weights={comparison.alone: 1.0})
    return {SINGLE: alone} | {one.combiner: one.combination for one in comparison.candidates}


def save_artefacts(
    prepared: Prepared,
    comparison: Comparison,
    promised: Mapping[str, Promised] | None = None,
    refits: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Save every combination, and the best single member, as something Serve can load.

    Args:
        promised: by name, what `blend` lets one promise; goes into the card.
        refits: by name, what a refit changed on `test`; goes into the card beside `test`.
    """
    blocks = prepared.blocks.to_json()
    facts = {
        "data_from": blocks["train"],
        "data_until": blocks["select"],
        "metric": comparison.metric,
        "types": read_log_card(prepared.run.log).get("types", []),
    }
    tests = {c.combiner: c.test for c in comparison.candidates}
    tests[SINGLE] = comparison.members[comparison.alone]
    for name, combination in combinations_of(comparison).items():
        figures: dict[str, Any] = {"test": _json(tests[name])}
        if promised is not None:
            figures |= promised[name].to_json()
        if refits is not None and name in refits:
            of = f"the same weights over members refitted with data until {blocks['test']}"
            figures["refit"] = {"of": of, **refits[name]}
        save_ensemble(
            prepared.run, name, combination, prepared.experiment.requests, facts | figures
        )


def _ranked(comparison: Comparison) -> list[tuple[str, Mapping[str, Interval]]]:
    """Members as `select` ranks them."""
    sign = sign_of(comparison.metric)
    return sorted(comparison.members.items(), key=lambda pair: -sign * comparison.select[pair[0]])


def _member(
    prepared: Prepared, comparison: Comparison, member_id: str, test: Mapping[str, Interval]
) -> dict[str, Any]:
    recipe, _ = read_card(prepared.run.member(member_id))
    facts = prepared.run.member_facts(member_id)
    size = getattr(recipe, "size", None)
    return {
        "id": member_id,
        "kind": recipe.kind,
        "window": recipe.window.model_dump(),
        "size": None if size is None else size.label,
        "recipe": json.loads(
            recipe.model_dump_json(exclude_defaults=True, exclude={"kind", "name", "window"})
        ),
        "train_s": facts["train_s"],
        "params": facts["params"],
        "score_ms": facts["score_ms"],
        "history": [
            {**{k: v for k, v in epoch.items() if k != "seconds"}, "s": epoch["seconds"]}
            for epoch in facts["history"]
        ],
        **(
            {"select": {comparison.metric: {"mean": comparison.select[member_id]}}}
            if member_id in comparison.select
            else {}
        ),
        **(
            {"blend": {comparison.metric: {"mean": comparison.blend[member_id]}}}
            if member_id in comparison.blend
            else {}
        ),
        "test": _json(test),
    }


def _json(metrics: Mapping[str, Interval]) -> dict[str, dict[str, float | None]]:
    return {name: value.to_json() for name, value in metrics.items()}


def _machine() -> dict[str, Any]:
    budget = cpu_budget()
    return {
        "system": f"{system.system()} {system.machine()}",
        "python": system.python_version(),
        "cpus": budget.cpus,
        "memory_gb": round(budget.memory_bytes / 2**30, 1),
    }
