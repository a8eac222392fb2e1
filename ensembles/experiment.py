"""A whole experiment, in order: prepare, fit, compare, refit when asked, report."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from penchant.ensembles.comparing.compare import Comparison, compare, judge_block
from penchant.ensembles.comparing.refitted import judge_refits
from penchant.ensembles.page.curves import read_curves
from penchant.ensembles.page.report import write_report
from penchant.ensembles.promises.assurance import assure
from penchant.ensembles.summary import build_report, save_artefacts
from penchant.platform.cluster import start_ray
from penchant.platform.config import Experiment
from penchant.platform.errors import ConfigError
from penchant.platform.intervals import Interval
from penchant.platform.memory import PeakMemory
from penchant.platform.origins import earlier_experiments
from penchant.platform.prepared import Prepared, open_prepared, prepare
from penchant.platform.progress import Progress
from penchant.platform.recipes import recipe_id
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block
from penchant.platform.tracking_settings import require_trackers
from penchant.trainers.refit import REFIT, refit_recipes
from penchant.trainers.search import experiment_recipes, fit_members

__all__ = ["compare_again", "finished_members", "run_experiment"]


class _Stages:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - began


def run_experiment(
    experiment: Experiment, directory: Path, progress: Progress, address: str | None = None
) -> dict[str, Any]:
    """Everything an experiment file says; returns the report.

    Args:
        directory: the run directory; what is finished there is not done again.
        address: of a Ray cluster that sees the directory, or None for a private Ray.
    """
    require_trackers(experiment.tracking.to)
    earlier = earlier_experiments(experiment)
    with PeakMemory() as memory:
        stages = _Stages()
        with stages.stage("prepare"):  # before Ray starts: what the data lack is said at once
            prepared = prepare(experiment, RunDirectory(directory), progress.say)
        report = _run(prepared, progress, address, stages, memory)
        for steps, then in enumerate(earlier, 1):
            place = RunDirectory(directory / "origins" / str(steps))
            progress.say(f"origin {steps + 1} of {experiment.time.origins}: {place.root}")
            ready = prepare(then, place, progress.say)
            found = _run(ready, progress, address, _Stages(), memory)
            report.setdefault("origins", []).append(_origin(found))
    if earlier:
        write_report(report, prepared.run.report, read_curves(prepared.run, report))
    return report


def _run(
    prepared: Prepared,
    progress: Progress,
    address: str | None,
    stages: _Stages,
    memory: PeakMemory,
) -> dict[str, Any]:
    """Fit what is missing, compare, report; Ray is up only while members are fitted."""
    experiment = prepared.experiment
    recipes = experiment_recipes(experiment)
    refits = []
    with start_ray(address=address):
        with stages.stage("members"):
            fit_members(prepared, recipes, progress, until_ms=prepared.blocks.select_ms)
        if experiment.refit:
            with stages.stage("refit"):
                refits = refit_recipes(prepared.run, recipes)
                fit_members(
                    prepared,
                    refits,
                    progress,
                    until_ms=prepared.blocks.test_ms,
                    suffix=REFIT,
                    blocks=(Block.SELECT, Block.TEST),
                )
    member_ids = [recipe_id(recipe) for recipe in recipes]
    refit_ids = [recipe_id(recipe) + REFIT for recipe in refits]
    return _finish(prepared, member_ids, refit_ids, progress, stages, memory)


def _origin(report: dict[str, Any]) -> dict[str, Any]:
    """What a comparison at an earlier origin found, for the report of the latest one."""
    metric = report["metric"]
    differences = {
        ensemble["name"]: ensemble["difference_to_best_single"][metric]
        for ensemble in report["ensembles"]
    }
    tests = {member["id"]: member["test"][metric] for member in report["members"]}
    return {
        "test_from": report["blocks"]["test"],
        "test_until": report["blocks"]["end"],
        "best_single": report["best_single"],
        "recommended": report["recommended"],
        "test": tests[report["best_single"]],
        "differences": differences,
    }


def compare_again(
    directory: Path, progress: Progress, settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Compare the members that are in the store, without fitting anything; returns the report.

    Args:
        settings: what to change in the run's `ensemble` section.
    """
    prepared = _with_settings(open_prepared(RunDirectory(directory)), settings or {})
    members = finished_members(directory)
    refits = [name for name in _made(directory) if name.endswith(REFIT)]
    with PeakMemory() as memory:
        return _finish(prepared, members, refits, progress, _Stages(), memory)


def finished_members(directory: Path) -> list[str]:
    """Ids of the members that are fitted and scored, refits aside.

    Raises:
        ConfigError: there is none.
    """
    members = [name for name in _made(directory) if "@" not in name]
    if not members:
        raise ConfigError(
            f"{directory} holds no finished member: expected at least one under members/. "
            "Run the experiment first."
        )
    return members


def _made(directory: Path) -> list[str]:
    return sorted(path.parent.name for path in (directory / "members").glob("*/metrics.json"))


def _with_settings(prepared: Prepared, settings: Mapping[str, Any]) -> Prepared:
    experiment = prepared.experiment
    changed = experiment.ensemble.model_copy(update=dict(settings))
    return replace(prepared, experiment=experiment.model_copy(update={"ensemble": changed}))


def _finish(
    prepared: Prepared,
    member_ids: list[str],
    refit_ids: list[str],
    progress: Progress,
    stages: _Stages,
    memory: PeakMemory,
) -> dict[str, Any]:
    with stages.stage("compare"):
        progress.say(f"comparing {len(member_ids)} members and their combinations")
        comparison: Comparison = compare(prepared, member_ids, progress.say)
        refitted: dict[str, dict[str, Interval]] = judge_block(prepared, Block.TEST, refit_ids)
        progress.say("what can be promised: calibration and sets")
        assured = assure(prepared, comparison.shipped)
        save_artefacts(prepared, comparison, assured)
    seconds, peak_bytes = _over_all_runs(prepared, stages, memory)
    report = build_report(prepared, comparison, refitted, seconds, peak_bytes)
    report["assurance"] = assured.to_json()
    refits = judge_refits(prepared, comparison, refit_ids)
    for ensemble in report["ensembles"]:
        if ensemble["name"] in refits:
            ensemble["refit"] = refits[ensemble["name"]]
    page = write_report(report, prepared.run.report, read_curves(prepared.run, report))
    progress.say(f"report: {page}")
    return report


def _over_all_runs(
    prepared: Prepared, stages: _Stages, memory: PeakMemory
) -> tuple[dict[str, float], int]:
    """Seconds of each stage and peak memory, over all the finished runs of this directory."""
    path = prepared.run.report / "report.json"
    earlier = json.loads(path.read_text()) if path.exists() else {}
    before: dict[str, float] = earlier.get("seconds", {})
    summed = {name: before.get(name, 0.0) + s for name, s in stages.seconds.items()}
    peak_bytes = max(memory.peak_bytes, int((earlier.get("peak_memory_mb") or 0) * 2**20))
    return {**before, **summed, "compare": stages.seconds["compare"]}, peak_bytes
