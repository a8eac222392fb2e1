"""A refit uses what the first fit found out, under the first fit's id."""

from __future__ import annotations

from penchant.platform.recipes import PersonalRecipe, SequenceRecipe, recipe_id
from penchant.platform.store import RunDirectory, write_json
from penchant.trainers.refit import refit_recipes


def _refitted(tmp_path, losses, mean=None):
    run = RunDirectory(tmp_path)
    network = SequenceRecipe(kind="sequence", epochs=9, patience=2, average=2)
    history = [{"select_loss": loss} for loss in losses]
    if mean is not None:
        history[-1]["mean"] = mean
    write_json(run.member(recipe_id(network)) / "metrics.json", {"history": history})
    (refitted,) = refit_recipes(run, [network])
    assert recipe_id(refitted) == recipe_id(network)
    unchanged = {"name", "stop_after", "patience", "average"}
    assert refitted.model_dump(exclude=unchanged) == network.model_dump(exclude=unchanged)
    assert refitted.patience >= 9  # `select` is learned from and may stop nothing
    return refitted


def test_counts_are_refitted_as_they_are(tmp_path):
    counts = PersonalRecipe(kind="personal")
    assert refit_recipes(RunDirectory(tmp_path), [counts]) == [counts]


def test_a_sequence_ends_at_its_best_epoch_with_the_learning_rates_of_all(tmp_path):
    refitted = _refitted(tmp_path, (3.0, 2.5, 2.25, 2.5, 2.25))
    assert (refitted.epochs, refitted.stop_after) == (9, 3)  # the first of equals
    assert refitted.average is None


def test_a_mean_of_epochs_is_refitted_as_one_up_to_its_last(tmp_path):
    mean = {"averaged": [2, 3], "select_loss": 2.0}
    refitted = _refitted(tmp_path, (3.0, 2.5, 2.25, 2.5, 2.75), mean)
    assert (refitted.stop_after, refitted.average) == (4, 2)


def test_a_mean_that_was_no_better_is_not_refitted(tmp_path):
    mean = {"averaged": [2, 3], "select_loss": 2.3}
    refitted = _refitted(tmp_path, (3.0, 2.5, 2.25, 2.5, 2.75), mean)
    assert (refitted.stop_after, refitted.average) == (3, None)
