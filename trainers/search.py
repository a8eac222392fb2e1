"""The search: every recipe of an experiment, fitted up to a cut-off, its scores in the store.

Baselines are Ray tasks. Sequence members are Ray Tune trials; a trial is one Ray Train run whose
workers run DeepSpeed, for all sizes of one window. What is in the store already is not done again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from penchant.platform.config import Experiment
from penchant.platform.errors import RunError
from penchant.platform.prepared import JUDGED_BLOCKS, Prepared
from penchant.platform.progress import Progress
from penchant.platform.recipes import Recipe, SequenceRecipe, recipe_id
from penchant.platform.timeline import Block
from penchant.trainers.fit import encode_items, fit_and_keep
from penchant.trainers.ledger import Ledger
from penchant.trainers.worker import train_group

__all__ = ["experiment_recipes", "fit_members"]

_DRIVER_BYTES = 200 * 2**20  # a trial only waits for its workers: it needs memory, not a CPU
_BASELINE_STEPS = 3  # a baseline's share of the progress bar, in epochs of a sequence model


def experiment_recipes(experiment: Experiment) -> list[Recipe]:
    """The listed members, then the search's grid of windows x sizes; equal recipes once."""
    recipes: list[Recipe] = list(experiment.members)
    if experiment.search is not None:
        base = experiment.search.base
        recipes += [
            base.model_copy(update={"window": window, "size": size})
            for window in experiment.search.windows
            for size in experiment.search.sizes
        ]
    return list({recipe_id(recipe): recipe for recipe in recipes}.values())


def fit_members(
    prepared: Prepared,
    recipes: Sequence[Recipe],
    progress: Progress,
    *,
    until_ms: int,
    suffix: str = "",
    blocks: Sequence[Block] = JUDGED_BLOCKS,
) -> None:
    """Fit every recipe that is not in the store, on the Ray that is connected.

    Args:
        until_ms: cut-off; nothing from then on is learned from.
        suffix: of the members' ids, to tell a refit from the first fit.

    Raises:
        RunError: a member failed; the others were finished first.
    """
    ledger = Ledger(prepared.run.ledger)
    missing = [r for r in recipes if not prepared.run.has_member(recipe_id(r) + suffix)]
    steps = {
        recipe_id(r) + suffix: r.epochs if isinstance(r, SequenceRecipe) else _BASELINE_STEPS
        for r in missing
    }
    if not missing:
        progress.say(f"all {len(recipes)} members are in the store already")
        return
    progress.expect("members", steps)
    job = {
        "run": str(prepared.run.root.resolve()),
        "until_ms": until_ms,
        "suffix": suffix,
        "blocks": [str(block) for block in blocks],
    }
    tasks = _start_baselines([r for r in missing if not isinstance(r, SequenceRecipe)], job)
    sequences = [r for r in missing if isinstance(r, SequenceRecipe)]
    _encode_texts(sequences, job)
    watch = _Watch(progress, ledger, tasks)
    failures = _run_trials(prepared, sequences, job, watch) if sequences else []
    failures += watch.wait_for_tasks()
    if failures:
        raise RunError(
            f"{len(failures)} of {len(missing)} members failed:\n  "
            + "\n  ".join(failures)
            + "\nWhat was finished is kept: mend the cause and run again."
        )


def _start_baselines(recipes: Sequence[Recipe], job: Mapping[str, Any]) -> dict[Any, str]:
    fit = ray.remote(num_cpus=1, max_retries=2)(fit_and_keep)
    return {
        fit.remote(
            job["run"], r.model_dump(mode="json"), job["until_ms"], job["suffix"], job["blocks"]
        ): recipe_id(r) + job["suffix"]
        for r in sorted(recipes, key=lambda r: r.kind != "boosted")  # the longest first
    }


def _encode_texts(recipes: Sequence[SequenceRecipe], job: Mapping[str, Any]) -> None:
    encode = ray.remote(num_cpus=1)(encode_items)
    texts = sorted({r.text for r in recipes if r.text is not None})
    ray.get([encode.remote(job["run"], text) for text in texts])


class _Watch:
    """Tells the progress display and the ledger what trials and tasks do."""

    def __init__(self, progress: Progress, ledger: Ledger, tasks: dict[Any, str]) -> None:
        self._progress, self._ledger, self._tasks = progress, ledger, tasks
        self._failures: list[str] = []

    def result(self, result: Mapping[str, Any]) -> None:
        """A worker group reported."""
        self.poll()
        known = ("member", "state", "epoch", "epochs", "train_loss", "select_loss", "select_metric")
        event = {name: result[name] for name in (*known, "seconds") if name in result}
        if "member" not in event:
            return
        self._ledger.append(event)
        if event["state"] == "epoch":
            note = (
                f"epoch {event['epoch'] + 1}/{event['epochs']}, train {event['train_loss']:.3f}, "
                f"select {event['select_loss']:.3f}, NDCG@10 {event['select_metric']:.4f}"
            )
            self._progress.step(event["member"], event["epoch"] + 1, note)
        else:
            self._progress.finish(event["member"], f"trained in {event['seconds']:.0f} s")

    def poll(self, timeout_s: float = 0.0) -> None:
        """Look after the baselines."""
        ready, _ = (
            ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=timeout_s)
            if self._tasks
            else ([], [])
        )
        for task in ready:
            member = self._tasks.pop(task)
            try:
                seconds = ray.get(task)
            except ray.exceptions.RayError as error:
                self._failures.append(f"{member}: {_cause(error)}")
                self._ledger.append({"member": member, "state": "failed"})
                continue
            self._ledger.append({"member": member, "state": "done", "seconds": seconds})
            self._progress.finish(member, f"fitted in {seconds:.1f} s")

    def wait_for_tasks(self) -> list[str]:
        """Failures of the baselines, once all are done."""
        while self._tasks:
            self.poll(timeout_s=0.2)
        return self._failures


def _groups(recipes: Sequence[SequenceRecipe]) -> list[list[SequenceRecipe]]:
    """Recipes by window; the longest windows first, since they take longest."""
    groups: dict[tuple[str, str], list[SequenceRecipe]] = defaultdict(list)
    for recipe in recipes:
        groups[recipe.window.label, recipe.tokens].append(recipe)

    def cost(group: list[SequenceRecipe]) -> float:
        days = group[0].window.days or float("inf")
        return -days if group[0].tokens == "group" else float("-inf")

    return sorted(groups.values(), key=cost)


def _run_trials(
    prepared: Prepared, recipes: Sequence[SequenceRecipe], job: Mapping[str, Any], watch: _Watch
) -> list[str]:
    """One Tune trial a group of recipes; returns what failed."""
    from ray import tune

    class Report(tune.Callback):
        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
        ) -> None:
            watch.result(result)

        def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
            return tune.Callback, ()  # Tune pickles its settings; the display stays here

        def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
            watch.poll()

    workers = prepared.experiment.resources.workers
    cpus = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
    concurrent = prepared.experiment.resources.concurrent_trials or max(cpus // workers, 1)
    storage = prepared.run.root.resolve() / "search"
    tasks = [
        {
            **job,
            "recipes": [r.model_dump(mode="json") for r in group],
            "workers": workers,
            "storage": str(storage),
        }
        for group in _groups(recipes)
    ]
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the display is ours
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C is ours to answer
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    tuner = tune.Tuner(
        tune.with_resources(run_trial, {"CPU": 0, "memory": _DRIVER_BYTES}),
        param_space={"task": tune.grid_search(tasks)},
        tune_config=tune.TuneConfig(max_concurrent_trials=concurrent),
        run_config=tune.RunConfig(
            name="tune", storage_path=str(storage), verbose=0, callbacks=[Report()]
        ),
    )
    results = tuner.fit()
    shutil.rmtree(storage / "tune", ignore_errors=True)  # the ledger and the store say it all
    return [
        f"{_trial_members(r)}: {_cause(r.error)}"
        for r in map(results.__getitem__, range(len(results)))
        if r.error is not None
    ]


def run_trial(config: dict[str, Any]) -> None:
    """A trial: one Ray Train run for one group of recipes."""
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    task = config["task"]
    text = repr((task["recipes"], task["until_ms"], task["suffix"]))
    name = f"train-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    trainer = TorchTrainer(
        train_group,
        train_loop_config=task,
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=task["workers"], resources_per_worker={"CPU": 1}),
        run_config=RunConfig(
            name=name,  # the same group goes on where it was cut off
            storage_path=task["storage"],
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            failure_config=FailureConfig(max_failures=2),
            callbacks=[TuneReportCallback()],  # type: ignore[no-untyped-call, list-item]
        ),
    )
    result = trainer.fit()
    if result.error is not None:
        raise result.error
    shutil.rmtree(Path(task["storage"]) / name, ignore_errors=True)


def _trial_members(result: Any) -> str:
    recipes = (result.config or {}).get("task", {}).get("recipes", [])
    return ", ".join(str(r["kind"]) + " " + str(r["window"]) for r in recipes) or "a trial"


def _cause(error: BaseException) -> str:
    """The last line of a remote error: what went wrong, not where."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
