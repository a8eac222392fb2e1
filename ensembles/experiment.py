"""A whole experiment, in order: prepare, fit, compare, refit when asked, report."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from penchant.ensembles.comparing.compare import Comparison, compare, judge_block
from penchant.ensembles.comparing.over_origins import gains_of, with_origins
from penchant.ensembles.comparing.refitted import judge_refits
from penchant.ensembles.page.curves import read_curves
from penchant.ensembles.page.report import write_report
from penchant.ensembles.promises.assurance import assure, promise
from penchant.ensembles.standing import dropped, finished_members, made_members, unfinished
from penchant.ensembles.summary import build_report, combinations_of, save_artefacts
from penchant.platform.cluster import start_ray
from penchant.platform.config import Ensemble, Experiment
from penchant.platform.ensemble_settings import SINGLE
from penchant.platform.errors import PenchantError
from penchant.platform.memory import PeakMemory
from penchant.platform.origins import earlier_experiments
from penchant.platform.prepared import Prepared, open_prepared, prepare
from penchant.platform.progress import Progress
from penchant.platform.recipes import recipe_id
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block
from penchant.platform.tracking_settings import require_trackers
from penchant.trainers.base_models import refuse_future
from penchant.trainers.epoch_members import epochs_in
from penchant.trainers.refit import REFIT, refit_recipes
from penchant.trainers.search import experiment_recipes, fit_members

__all__ = ["compare_again", "run_experiment"]


@dataclass(frozen=True, kw_only=True)
class _Members:
    """What is in the store to compare."""

    ids: list[str]
    refits: list[str]
    notes: Sequence[str] = ()  # on what is not


class _Origins:
    """What earlier origins found, the latest first, and notes on those that found nothing."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        self.notes: list[str] = []

    @contextmanager
    def noted(self, place: Path, progress: Progress) -> Iterator[None]:
        """One that cannot be compared keeps the latest from nothing; it is told."""
        try:
            yield
        except PenchantError as error:
            self.notes.append(f"origins/{place.name} is left out: {error}")
            progress.say(self.notes[-1])


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

    The latest origin is compared when the earlier ones are, since they have a say in the choice.

    Args:
        directory: the run directory; what is finished there is not done again.
        address: of a Ray cluster that sees the directory, or None for a private Ray.
    """
    require_trackers(experiment.tracking.to)
    earlier = earlier_experiments(experiment)
    with RunDirectory(directory).alone(), PeakMemory() as memory:
        stages = _Stages()
        with stages.stage("prepare"):  # before Ray starts: what the data lack is said at once
            prepared = prepare(experiment, RunDirectory(directory), progress.say)
            ready = _prepare_earlier(earlier, directory, progress)
        members = _fit(prepared, progress, address, stages)
        origins = _Origins()
        for steps, then in enumerate(ready, 1):
            place = then.run
            progress.say(f"origin {steps + 1} of {experiment.time.origins}: {place.root}")
            theirs = _fit(then, progress, address, _Stages())
            with origins.noted(place.root, progress):
                report = _finish(then, theirs, progress, _Stages(), memory)
                origins.reports.append(report)
        return _finish(prepared, members, progress, stages, memory, origins)


def _prepare_earlier(
    earlier: Sequence[Experiment], directory: Path, progress: Progress
) -> list[Prepared]:
    """Earlier origins, ready; what they may not begin with is told before the latest is fitted."""
    made = []
    for steps, then in enumerate(earlier, 1):
        place = RunDirectory(directory / "origins" / str(steps))
        progress.say(f"preparing origin {steps + 1}: {place.root}")
        made.append(prepare(then, place, progress.say))
        until_ms = made[-1].blocks.select_ms
        refuse_future(made[-1], experiment_recipes(then), until_ms, progress.say)
    return made


def _fit(prepared: Prepared, progress: Progress, address: str | None, stages: _Stages) -> _Members:
    """Fit what is missing; Ray is up only meanwhile."""
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
    return _Members(
        ids=[*map(recipe_id, recipes), *epochs_in(prepared.run, recipes)],
        refits=[recipe_id(recipe) + REFIT for recipe in refits],
    )


def compare_again(
    directory: Path, progress: Progress, settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Compare the members that are in the store, without fitting anything; returns the report.

    Earlier origins that are in the directory are compared again before, with the same settings;
    one that cannot be compared is told in the notes.

    Args:
        settings: what to change in the run's `ensemble` section.
    """
    prepared = open_prepared(RunDirectory(directory))
    ensemble = prepared.experiment.ensemble.model_copy(update=dict(settings or {}))
    with PeakMemory() as memory:
        origins = _Origins()
        for place in _places(directory, prepared.experiment.time.origins):
            progress.say(f"earlier origin: {place}")
            with origins.noted(place, progress):
                then = open_prepared(RunDirectory(place))
                origins.notes += unfinished(then, f"origins/{place.name}")
                if made_members(place):
                    origins.reports.append(_compare_kept(then, ensemble, progress, memory))
        return _compare_kept(prepared, ensemble, progress, memory, origins)


def _compare_kept(
    prepared: Prepared,
    ensemble: Ensemble,
    progress: Progress,
    memory: PeakMemory,
    origins: _Origins | None = None,
) -> dict[str, Any]:
    experiment = prepared.experiment.model_copy(update={"ensemble": ensemble})
    directory = prepared.run.root
    ids, made = finished_members(directory), made_members(directory)
    members = _Members(
        ids=ids,
        refits=[f"{name}{REFIT}" for name in ids if f"{name}{REFIT}" in made],
        notes=[*unfinished(prepared, "members"), *dropped(directory, ids)],
    )
    for note in members.notes:
        progress.say(note)
    ready = replace(prepared, experiment=experiment)
    return _finish(ready, members, progress, _Stages(), memory, origins)


def _places(directory: Path, origins: int) -> list[Path]:
    """Directories of the earlier origins, the latest first; those that should be there, too."""
    names = [path.name for path in (directory / "origins").glob("*")]
    steps = {int(name) for name in names if name.isdecimal()} | set(range(1, origins))
    return [directory / "origins" / str(step) for step in sorted(steps)]


def _finish(
    prepared: Prepared,
    members: _Members,
    progress: Progress,
    stages: _Stages,
    memory: PeakMemory,
    origins: _Origins | None = None,
) -> dict[str, Any]:
    """Compare, save, report."""
    origins = origins or _Origins()
    with stages.stage("compare"):
        progress.say(f"comparing {len(members.ids)} members and their combinations")
        found: Comparison = compare(prepared, members.ids, progress.say)
        comparison = replace(
            found,
            notes=[*members.notes, *origins.notes, *found.notes],
            earlier=[gains_of(report) for report in origins.reports],
        )
        refitted = judge_block(prepared, Block.TEST, members.refits)
        refits = judge_refits(prepared, combinations_of(comparison), members.refits)
        progress.say("what can be promised: calibration and sets")
        promised = promise(prepared, combinations_of(comparison))
        shipped = promised.get(comparison.choice, promised[SINGLE])
        assured = assure(prepared, comparison.shipped, shipped)
        save_artefacts(prepared, comparison, promised, refits)
    seconds, peak_bytes = _over_all_runs(prepared, stages, memory)
    report = build_report(prepared, comparison, refitted, seconds, peak_bytes)
    report = with_origins(report, origins.reports)
    report["assurance"] = assured.to_json()
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
