"""A refit uses what the first fit found out, under the first fit's id."""

from __future__ import annotations

from penchant.platform.recipes import PersonalRecipe, SequenceRecipe, recipe_id
from penchant.platform.store import RunDirectory, write_json
from penchant.trainers.refit import refit_recipes


def test_a_sequence_is_refitted_for_the_epochs_that_were_best(tmp_path):
    run = RunDirectory(tmp_path)
    counts = PersonalRecipe(kind="personal")
    network = SequenceRecipe(kind="sequence", epochs=9, patience=2)
    history = [{"select_loss": loss} for loss in (3.0, 2.5, 2.25, 2.5, 2.25)]
    write_json(run.member(recipe_id(network)) / "metrics.json", {"history": history})
    again, refitted = refit_recipes(run, [counts, network])
    assert again == counts
    assert (refitted.epochs, refitted.patience) == (3, 3)  # the first of equals
    assert recipe_id(refitted) == recipe_id(network)
    unchanged = {"name", "epochs", "patience"}
    assert refitted.model_dump(exclude=unchanged) == network.model_dump(exclude=unchanged)
