"""Law 3: losses and gradients do not depend on how many workers share the work."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from penchant.trainers.sequence.network import SequenceNetwork, basket_loss
from penchant.trainers.sequence.plan import TrainingPlan


def plan_of(world, recipes, **settings):
    update = {"batch_tokens": 64, "dropout": 0.3, **settings}
    return TrainingPlan(recipes["sequence-groups"].model_copy(update=update), world.past)


def loss_and_gradient(plan, epoch, at, workers):
    """What an all-reduce over `workers` workers sums up, for one step."""
    torch.manual_seed(0)
    network = SequenceNetwork(plan.recipe, plan.past.log.num_items, None)
    pieces, chosen = plan.pieces(epoch), plan.batches(epoch)[at]
    total = 0.0
    for rank in range(workers):
        step = plan.step(pieces, chosen, epoch, rank, workers)
        losses = basket_loss(network(step.batch), step.target, step.target_request)
        loss = losses.sum() / step.global_requests
        loss.backward()
        total += loss.item()
    return total, torch.cat([p.grad.flatten() for p in network.parameters()])


@pytest.mark.parametrize("place", ["baskets", "events", "sessions"])
def test_one_two_three_and_too_many_workers_have_the_same_loss_and_gradient(place, world, recipes):
    plan = plan_of(world(place), recipes)
    pieces = len(plan.batches(1)[0])
    assert pieces > 1
    alone = loss_and_gradient(plan, 1, 0, 1)
    for workers in (2, 3, pieces + 2):
        loss, gradient = loss_and_gradient(plan, 1, 0, workers)
        assert loss == pytest.approx(alone[0], rel=1e-5)
        torch.testing.assert_close(gradient, alone[1], rtol=1e-3, atol=1e-5)


def test_the_shares_of_the_workers_make_up_the_batch(world, recipes):
    plan = plan_of(world("baskets"), recipes)
    pieces, chosen = plan.pieces(0), plan.batches(0)[0]
    whole = plan.step(pieces, chosen, 0, 0, 1)
    shares = [plan.step(pieces, chosen, 0, rank, 3) for rank in range(3)]
    counts = [len(share.batch.readout) for share in shares]
    assert sum(counts) == len(whole.batch.readout) == whole.global_requests
    assert {share.global_requests for share in shares} == {whole.global_requests}
    joined = torch.cat([share.target for share in shares])
    assert joined.sort().values.tolist() == whole.target.sort().values.tolist()


def test_a_batch_is_a_function_of_seed_epoch_and_step_alone(world, recipes):
    """So that a run that was cut goes on with the very batches it would have had."""
    first, again = (plan_of(world("baskets"), recipes, max_tokens=5) for _ in range(2))
    other = plan_of(world("baskets"), recipes, max_tokens=5, seed=1)
    last = [b.tolist() for b in first.batches(3)]
    assert last == [b.tolist() for b in again.batches(3)]
    assert last != [b.tolist() for b in first.batches(2)]
    assert last != [b.tolist() for b in other.batches(3)]
    step, same = (p.step(p.pieces(3), p.batches(3)[1], 3, 0, 2) for p in (first, again))
    assert torch.equal(step.batch.kept, same.batch.kept)
    assert torch.equal(step.batch.item, same.batch.item)


def test_dropout_keeps_the_expected_size_of_what_passes(world, recipes):
    plan = plan_of(world("baskets"), recipes)
    kept = plan.step(plan.pieces(0), np.arange(20), 0, 0, 1).batch.kept
    assert sorted(kept.unique().tolist()) == pytest.approx([0.0, 1 / 0.7])
    assert kept.mean().item() == pytest.approx(1.0, abs=0.03)
    plain = plan_of(world("baskets"), recipes, dropout=0.0)
    assert plain.step(plain.pieces(0), np.arange(20), 0, 0, 1).batch.kept is None
