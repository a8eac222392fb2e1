"""Law 7: members are trained on the requests, and on the very question, that they face later."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from penchant.platform import config
from penchant.platform.requests import all_requests, latest_requests
from penchant.trainers.member import Past
from penchant.trainers.score import masked_scores
from penchant.trainers.sequence import plan as plan_module
from penchant.trainers.sequence.plan import TrainingPlan

SPECS = {
    "large baskets": config.Requests(unit="group", min_items=3),
    "new items": config.Requests(unit="group", exclude_seen=True),
    "events": config.Requests(unit="event"),
}


def asked_in_epoch(plan, epoch, monkeypatch, workers=1):
    """Requests of each batch of an epoch, and the steps."""
    asked, steps = [], []
    build = plan_module.build_batch

    def spy(log, recipe, starts, own, requests, readout, **settings):
        asked.append(requests)
        return build(log, recipe, starts, own, requests, readout, **settings)

    monkeypatch.setattr(plan_module, "build_batch", spy)
    pieces = plan.pieces(epoch)
    for chosen in plan.batches(epoch):
        steps += [plan.step(pieces, chosen, epoch, rank, workers) for rank in range(workers)]
    return asked, steps


@pytest.mark.parametrize("name", SPECS)
def test_training_requests_pass_the_filters_of_the_judged_ones(name, draw, recipes):
    log, spec = draw("baskets", users=12, groups=14, items=9), SPECS[name]
    until = int(np.quantile(log.time_ms, 0.7))
    before = all_requests(log, spec, 0, until)
    plan = TrainingPlan(recipes["sequence-groups"], Past(log=log, spec=spec, until_ms=until))
    for found in (plan.requests, latest_requests(log, spec, until, 10_000, seed=0)):
        for field in dataclasses.fields(found):
            if getattr(before, field.name) is not None:
                np.testing.assert_array_equal(
                    getattr(found, field.name), getattr(before, field.name), err_msg=field.name
                )


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("max_tokens", [3, 64])
@pytest.mark.parametrize("place", ["baskets", "events", "sessions", "session-events"])
def test_an_epoch_asks_each_training_request_once(
    place, max_tokens, workers, world, recipes, monkeypatch
):
    """Also where histories are cut into pieces, at every place where an epoch may cut them."""
    settings = {"max_tokens": max_tokens, "batch_tokens": 50}
    plan = TrainingPlan(recipes["sequence-groups"].model_copy(update=settings), world(place).past)
    for epoch in range(4):
        asked, steps = asked_in_epoch(plan, epoch, monkeypatch, workers)
        rows = np.concatenate([requests.row for requests in asked])
        np.testing.assert_array_equal(np.sort(rows), plan.requests.row)
        assert sum(len(step.target) for step in steps) == len(plan.requests.target)


@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize("place", ["baskets", "events"])
@pytest.mark.parametrize("name", ["sequence-groups", "sequence-events", "sequence-text"])
def test_training_and_scoring_see_the_same_state(
    name, place, exclude_seen, world, recipes, fit_member, monkeypatch
):
    """All requests of a history read in parallel equal each of them scored alone."""
    here = world(place)
    spec = here.spec.model_copy(update={"exclude_seen": exclude_seen})
    recipe = recipes[name].model_copy(update={"max_tokens": 200, "batch_tokens": 600})
    past = dataclasses.replace(here.past, spec=spec)
    member = fit_member(recipe, past)
    asked, steps = asked_in_epoch(TrainingPlan(recipe, past), 0, monkeypatch)
    assert sum(len(requests) for requests in asked) > 100
    for requests, step in zip(asked, steps, strict=True):
        with torch.inference_mode():
            together = member.network(step.batch).numpy()
        alone = masked_scores(member, here.log, requests, exclude_seen=exclude_seen)
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-4)


def test_a_cut_history_is_read_with_at_least_what_a_short_window_holds(world, recipes, monkeypatch):
    """A request on a cut is read from the piece before it, with all of its history there."""
    here = world("events")
    recipe = recipes["sequence-events"].model_copy(update={"max_tokens": 4})
    plan = TrainingPlan(recipe, here.past)
    asked, steps = asked_in_epoch(plan, 1, monkeypatch)
    for requests, step in zip(asked, steps, strict=True):
        # the place of a read-out in its sequence is how many events it sees, but for the start
        place = step.batch.packed[step.batch.readout] % step.batch.visible.shape[1]
        known = torch.from_numpy(requests.end - requests.first(here.log))
        assert bool((place >= 1).logical_or(known == 0).all())
        assert bool((place <= known).all())
