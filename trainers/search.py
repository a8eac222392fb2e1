"""The search: every recipe of an experiment, fitted up to a cut-off, its scores in the store.

Baselines are Ray tasks. Sequence and text members are Ray Tune trials; a trial is one Ray Train run
whose workers run DeepSpeed: for all sizes of one window, or for one language model. What is in the
store already is not done again.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from penchant.platform.config import Experiment
from penchant.platform.errors import ConfigError, RunError
from penchant.platform.prepared import JUDGED_BLOCKS, Prepared
from penchant.platform.progress import Progress
from penchant.platform.recipes import (
    Recipe,
    SequenceRecipe,
    TextRecipe,
    most_epochs,
    recipe_id,
)
from penchant.platform.timeline import Block
from penchant.trainers.base_models import find_models, refuse_future
from penchant.trainers.fit import encode_items, fit_and_keep
from penchant.trainers.member import read_card
from penchant.trainers.trial import run_trial
from penchant.trainers.watch import Watch
from penchant.trainers.worker_group import takes_gpus

__all__ = ["experiment_recipes", "fit_members"]

_DRIVER_BYTES = 200 * 2**20  # a trial only waits for its workers: it needs memory, not a CPU
_BASELINE_STEPS = 3  # a baseline's share of the progress bar, in epochs of a sequence model


def experiment_recipes(experiment: Experiment) -> list[Recipe]:
    """The listed members, then the search's grid of windows x sizes x seeds; equal recipes once."""
    recipes: list[Recipe] = list(experiment.members)
    if experiment.search is not None:
        base = experiment.search.base
        recipes += [
            base.model_copy(update={"window": window, "size": size, "seed": seed})
            for window in experiment.search.windows
            for size in experiment.search.sizes
            for seed in experiment.search.seeds
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
        ConfigError: a member of that name is in the store, fitted by another recipe, or a language
            model is nowhere to be found, or knows what the members are judged on.
        RunError: a member failed; the others were finished first.
    """
    missing = [r for r in recipes if not _is_kept(prepared, r, suffix)]
    if not missing:
        progress.say(f"all {len(recipes)} members are in the store already")
        return
    find_models(missing)
    refuse_future(prepared, missing, until_ms, progress.say)
    trained = [r for r in missing if isinstance(r, SequenceRecipe | TextRecipe)]
    steps = {recipe_id(r) + suffix: _BASELINE_STEPS for r in missing}
    progress.expect("members", steps | {recipe_id(r) + suffix: most_epochs(r) for r in trained})
    job = {
        "run": str(prepared.run.root.resolve()),
        "directory": str(Path.cwd()),
        "until_ms": until_ms,
        "suffix": suffix,
        "blocks": [str(block) for block in blocks],
    }
    tasks = _start_baselines([r for r in missing if r not in trained], job)
    sequences = [r for r in missing if isinstance(r, SequenceRecipe)]
    watch = Watch(progress, prepared.run, tasks)
    readers = [r for r in missing if isinstance(r, TextRecipe)]
    groups: list[Sequence[SequenceRecipe | TextRecipe]] = [
        *_groups(_encode_texts(sequences, job, watch)),
        *([reader] for reader in readers),
    ]
    if groups:
        _run_trials(prepared, groups, job, watch)
    watch.wait_for_tasks()
    if watch.failures:
        raise RunError(
            f"{len(watch.failures)} of {len(missing)} members failed:\n"
            + "".join(f"  {member}: {cause}\n" for member, cause in watch.failures.items())
            + "What was finished is kept: mend the cause and run again."
        )


def _is_kept(prepared: Prepared, recipe: Recipe, suffix: str) -> bool:
    """Whether this very recipe is in the store."""
    member_id = recipe_id(recipe) + suffix
    if not prepared.run.has_member(member_id):
        return False
    if read_card(prepared.run.member(member_id))[0] != recipe:
        raise ConfigError(
            f"{prepared.run.member(member_id)} was fitted by another recipe than the experiment's "
            f"member {member_id}. Give the new recipe another name, or remove that directory."
        )
    return True


def _start_baselines(recipes: Sequence[Recipe], job: Mapping[str, Any]) -> dict[Any, str]:
    fit = ray.remote(max_retries=2)(fit_and_keep)
    gpu = int(takes_gpus(1, _gpus()))
    largest = max(int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["Alive"])  # type: ignore[no-untyped-call]
    return {
        # a language model is worth all CPUs of a machine, counting takes one
        fit.options(
            num_cpus=largest if r.kind == "zero_shot" else 1,
            num_gpus=gpu if r.kind == "zero_shot" else 0,
        ).remote(
            job["run"],
            r.model_dump(mode="json"),
            job["until_ms"],
            job["suffix"],
            job["blocks"],
            job["directory"],
        ): recipe_id(r) + job["suffix"]
        for r in sorted(recipes, key=lambda r: r.kind != "boosted")  # the longest first
    }


def _encode_texts(
    recipes: Sequence[SequenceRecipe], job: Mapping[str, Any], watch: Watch
) -> list[SequenceRecipe]:
    """Make item vectors once for all workers; returns the recipes whose vectors are there."""
    encode = ray.remote(num_cpus=1)(encode_items)
    texts = sorted({r.text for r in recipes if r.text is not None})
    tasks = {text: encode.remote(job["run"], text, job["directory"]) for text in texts}
    for text, task in tasks.items():
        try:
            ray.get(task)
        except ray.exceptions.RayError as error:
            for recipe in (r for r in recipes if r.text == text):
                watch.failed(recipe_id(recipe) + job["suffix"], error)
    return [r for r in recipes if recipe_id(r) + job["suffix"] not in watch.failures]


def _groups(recipes: Sequence[SequenceRecipe]) -> list[list[SequenceRecipe]]:
    """Recipes by window; the longest windows first, since they take longest."""
    groups: dict[tuple[str, str], list[SequenceRecipe]] = defaultdict(list)
    for recipe in recipes:
        groups[recipe.window.label, recipe.tokens].append(recipe)

    def cost(group: list[SequenceRecipe]) -> float:
        days = group[0].window.days or float("inf")
        return -days if group[0].tokens == "group" else float("-inf")

    return sorted(groups.values(), key=cost)


def _group_name(recipe: SequenceRecipe | TextRecipe) -> str:
    if isinstance(recipe, TextRecipe):
        return recipe_id(recipe)
    return f"{recipe.window.label}-{recipe.tokens}"


def _run_trials(
    prepared: Prepared,
    groups: Sequence[Sequence[SequenceRecipe | TextRecipe]],
    job: Mapping[str, Any],
    watch: Watch,
) -> None:
    """One Tune trial a group of recipes."""
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
    carried = _gpus() if takes_gpus(workers, _gpus()) else cpus
    concurrent = prepared.experiment.resources.concurrent_trials or max(carried // workers, 1)
    storage = prepared.run.root.resolve() / "search"
    tasks = [
        {
            **job,
            # The same group goes on where it was cut off, whatever its number of workers.
            "name": f"train-{_group_name(group[0])}{job['suffix']}",
            "recipes": [r.model_dump(mode="json") for r in group],
            "workers": workers,
            # a language model is worth all CPUs, a small network one
            "cpus": max(cpus // workers, 1) if any(map(_reads, group)) else 1,
            "storage": str(storage),
        }
        for group in groups
    ]
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the display is ours
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C is ours to answer
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are told by name below
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
    for at, group in enumerate(groups):
        if (error := results[at].error) is not None:
            for member in (recipe_id(r) + job["suffix"] for r in group):
                if not prepared.run.has_member(member):
                    watch.failed(member, error)


def _gpus() -> int:
    """GPUs of the cluster."""
    return int(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]


def _reads(recipe: SequenceRecipe | TextRecipe) -> bool:
    """Whether a language model takes part in every step, so that more CPUs help."""
    return isinstance(recipe, TextRecipe) or recipe.text_training is not None
