"""How many workers share the work, and whether one dies, changes nothing that is learned."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from penchant.platform.cluster import start_ray
from penchant.platform.config import Resources
from penchant.platform.errors import RunError
from penchant.platform.prepared import Prepared
from penchant.platform.progress import Progress
from penchant.platform.recipes import SequenceRecipe, Size
from penchant.platform.store import RunDirectory
from penchant.trainers.checkpoints import sound_and_torn
from penchant.trainers.ledger import Ledger
from penchant.trainers.search import experiment_recipes, fit_members

pytestmark = [pytest.mark.slow, pytest.mark.integration]

#: Two workers add up gradients in another order than one: a few float32 units over all steps.
TOLERANCE = 1e-5
KILL_AFTER = 5  # epochs


class KillingProgress(Progress):
    """Kills one of the training workers once the ledger has told of a few epochs."""

    killed = 0

    def step(self, part: str, done: int, note: str) -> None:
        super().step(part, done, note)
        if done >= KILL_AFTER and not self.killed:
            ours = psutil.Process().children(recursive=True)
            workers = [p for p in ours if "ray::RayTrainWorker" in " ".join(p.cmdline())]
            assert len(workers) == 2
            os.kill(workers[-1].pid, signal.SIGKILL)
            self.killed = workers[-1].pid


@pytest.fixture(scope="module")
def refitted(searched: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The searched run with `long` taken away and fitted again: two workers, one dies."""
    root = tmp_path_factory.mktemp("refitted") / "run"
    shutil.copytree(searched.run.root, root)
    shutil.rmtree(root / "members" / "long")
    experiment = searched.experiment.model_copy(update={"resources": Resources(workers=2)})
    prepared = Prepared(run=RunDirectory(root), experiment=experiment)
    with start_ray(num_cpus=2), KillingProgress(quiet=True) as progress:
        recipes = experiment_recipes(experiment)
        fit_members(prepared, recipes, progress, until_ms=prepared.blocks.select_ms)
    assert progress.killed
    return prepared


class StoppingProgress(Progress):
    """Ends the run once a few epochs are told, as Ctrl-C does."""

    def step(self, part: str, done: int, note: str) -> None:
        super().step(part, done, note)
        if done >= KILL_AFTER:
            raise KeyboardInterrupt


class ListeningProgress(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.said: list[str] = []

    def say(self, line: str) -> None:
        super().say(line)
        self.said.append(line)


@pytest.mark.parametrize("torn_list", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_training_goes_on_from_the_last_checkpoint_that_is_whole(
    searched: Prepared,
    tmp_path: Path,
    torn_list: bool,
    curve_of: Callable[[RunDirectory, str], NDArray[np.float64]],
    epochs_told: Callable[[RunDirectory, str], list[int]],
) -> None:
    """The last one lies on a bad disk, and a kill has left half of a later one."""
    root = tmp_path / "run"
    shutil.copytree(searched.run.root, root)
    shutil.rmtree(root / "members" / "long")
    prepared = Prepared(run=RunDirectory(root), experiment=searched.experiment)
    recipes = experiment_recipes(searched.experiment)
    until_ms = prepared.blocks.select_ms
    before = len(epochs_told(searched.run, "long"))
    with (
        start_ray(num_cpus=2),
        StoppingProgress(quiet=True) as stopping,
        pytest.raises(KeyboardInterrupt),
    ):
        fit_members(prepared, recipes, stopping, until_ms=until_ms)
    [place] = (root / "search").glob("train-*")
    last, torn = sound_and_torn(place)  # the end may have come amid a write
    assert last is not None
    with (last / "state.safetensors").open("r+b") as file:
        file.truncate(1000)
    half = place / "checkpoint_2099-01-01_00-00-00.000000"
    half.mkdir()
    shutil.copy(last / "state.safetensors", half)
    assert sound_and_torn(place)[0] is not None  # two were kept
    snapshot = place / "checkpoint_manager_snapshot.json"
    if torn_list:
        snapshot.write_text(snapshot.read_text()[:40])
    with start_ray(num_cpus=2), ListeningProgress() as progress:
        fit_members(prepared, recipes, progress, until_ms=until_ms)
    told_of = f"{len(torn) + 2} of its checkpoints are not whole"
    assert [line for line in progress.said if told_of in line]
    told = epochs_told(prepared.run, "long")[before:]
    again = [epoch for epoch in set(told) if told.count(epoch) > 1]
    assert len(again) <= 2  # the one of the ruined checkpoint, and one that was not kept any more
    np.testing.assert_allclose(
        curve_of(prepared.run, "long"), curve_of(searched.run, "long"), rtol=TOLERANCE, atol=0
    )


@pytest.mark.long
def test_a_loss_that_is_no_number_is_told_and_the_recipe_can_be_mended(
    searched: Prepared, tmp_path: Path, epochs_told: Callable[[RunDirectory, str], list[int]]
) -> None:
    """Both workers end at the same step; under the same name a lower rate trains anew."""
    root = tmp_path / "run"
    shutil.copytree(searched.run.root, root)
    experiment = searched.experiment.model_copy(update={"resources": Resources(workers=2)})
    prepared = Prepared(run=RunDirectory(root), experiment=experiment)
    size = Size(dim=16, layers=1)
    wild = SequenceRecipe(kind="sequence", name="wild", size=size, epochs=1, learning_rate=1e30)
    mended = wild.model_copy(update={"learning_rate": 3e-4})
    until_ms = prepared.blocks.select_ms
    with start_ray(num_cpus=2), Progress(quiet=True) as progress:
        # its only step is taken from sound weights, and leads where no loss is a number
        with pytest.raises(
            RunError, match=r"the loss on select is (nan|inf) after step 1 \(epoch 1\)"
        ) as caught:
            fit_members(prepared, [wild], progress, until_ms=until_ms)
        assert "no checkpoint yet. Lower learning_rate" in str(caught.value)
        refused = list((root / "search").glob("train-*/refused-*.json"))
        assert len(refused) == 2  # so that neither had to be stopped from waiting
        fit_members(prepared, [mended], progress, until_ms=until_ms)
    assert epochs_told(prepared.run, "wild") == [0]


def test_only_the_member_that_was_taken_away_is_fitted_again(
    searched: Prepared, refitted: Prepared
) -> None:
    before = len(Ledger(searched.run.ledger).read())
    assert {e["member"] for e in Ledger(refitted.run.ledger).read()[before:]} == {"long"}
    for old in (searched.run.root / "members").glob("*/metrics.json"):
        new = refitted.run.root / "members" / old.parent.name / old.name
        assert (new.read_bytes() == old.read_bytes()) == (old.parent.name != "long")


def test_two_workers_of_which_one_is_killed_give_the_loss_curve_of_one_worker(
    searched: Prepared,
    refitted: Prepared,
    curve_of: Callable[[RunDirectory, str], NDArray[np.float64]],
) -> None:
    one, two = curve_of(searched.run, "long"), curve_of(refitted.run, "long")
    assert len(one) == 40
    assert one[-1, 1] < one[0, 1] - 1  # it learns: curves that stand still prove nothing
    np.testing.assert_allclose(two, one, rtol=TOLERANCE, atol=0)


def test_a_killed_worker_costs_no_epoch_that_was_checkpointed(
    searched: Prepared,
    refitted: Prepared,
    epochs_told: Callable[[RunDirectory, str], list[int]],
) -> None:
    before = len(epochs_told(searched.run, "long"))
    told = epochs_told(refitted.run, "long")[before:]
    assert told == sorted(set(told))  # none twice
    assert set(range(KILL_AFTER)) <= set(told)
