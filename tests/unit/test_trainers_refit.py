"""A refit uses what the first fit found out, under the first fit's id."""

from __future__ import annotations

from penchant.platform.recipes import PersonalRecipe, SequenceRecipe, most_epochs, recipe_id
from penchant.platform.store import RunDirectory, write_json
from penchant.trainers.course import Course
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
    unchanged = {"name", "kept_epochs"}
    assert refitted.model_dump(exclude=unchanged) == network.model_dump(exclude=unchanged)
    return refitted


def test_counts_are_refitted_as_they_are(tmp_path):
    counts = PersonalRecipe(kind="personal")
    assert refit_recipes(RunDirectory(tmp_path), [counts]) == [counts]


def test_a_sequence_takes_the_epoch_that_was_best(tmp_path):
    refitted = _refitted(tmp_path, (3.0, 2.5, 2.25, 2.5, 2.25))
    assert refitted.kept_epochs == (3,)  # the first of equals
    assert most_epochs(refitted) == 3


def test_a_mean_of_epochs_is_refitted_as_one(tmp_path):
    mean = {"averaged": [1, 3], "select_loss": 2.0}
    refitted = _refitted(tmp_path, (3.0, 2.5, 2.25, 2.5, 2.75), mean)
    assert refitted.kept_epochs == (2, 4)
    assert most_epochs(refitted) == 4


def test_a_mean_that_was_no_better_is_not_refitted(tmp_path):
    mean = {"averaged": [2, 3], "select_loss": 2.3}
    assert _refitted(tmp_path, (3.0, 2.5, 2.25, 2.5, 2.75), mean).kept_epochs == (3,)


def test_epochs_that_are_told_are_trained_whatever_select_says(tmp_path):
    refitted = _refitted(tmp_path, (3.0, 2.5, 2.25, 2.5, 2.25))
    assert not Course(next_epoch=2, best_epoch=-1).is_over(refitted)  # patience is 2
    assert Course(next_epoch=3, best_epoch=2).is_over(refitted)


def test_an_epoch_counts_where_it_is_best_or_told(tmp_path):
    free = SequenceRecipe(kind="sequence")
    course = Course(next_epoch=1, best_loss=2.0, best_epoch=0)
    assert not course.takes(free, 2.0)
    assert course.takes(free, 1.5)
    assert (course.best_epoch, course.best_loss) == (1, 1.5)
    told = _refitted(tmp_path, (3.0, 2.5, 2.25))  # the third
    assert not Course(next_epoch=1, best_loss=9.0).takes(told, 1.0)
    assert Course(next_epoch=2, best_loss=1.0).takes(told, 5.0)
