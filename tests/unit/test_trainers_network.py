"""The network's parts by hand: loss and its gradient, copy head, item vectors, masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from penchant.platform.recipes import SequenceRecipe, Size
from penchant.platform.requests import all_requests
from penchant.trainers.sequence import model as sequence
from penchant.trainers.sequence.batches import build_batch, request_sequences, token_starts
from penchant.trainers.sequence.network import SequenceNetwork, basket_loss

TARGET = torch.tensor([1, 4, 0, 2, 2])
REQUEST = torch.tensor([0, 0, 1, 2, 1])


def drawn_logits() -> torch.Tensor:
    return torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def plain_loss(logits: torch.Tensor) -> torch.Tensor:
    """Cross-entropy against the even mix of the targets, without tricks."""
    log_p = torch.log_softmax(logits, dim=1)
    rows = [TARGET[row == REQUEST] for row in range(3)]
    return torch.stack([-log_p[row, items].mean() for row, items in enumerate(rows)])


def test_the_loss_is_the_cross_entropy_of_an_even_mix():
    logits = drawn_logits()
    torch.testing.assert_close(basket_loss(logits, TARGET, REQUEST), plain_loss(logits))
    even = basket_loss(torch.zeros(3, 6), TARGET, REQUEST)
    torch.testing.assert_close(even, torch.full((3,), math.log(6)))


def test_its_gradient_is_that_of_autograd_and_of_finite_differences():
    pull = torch.tensor([0.3, -2.0, 1.0], dtype=torch.float64)
    gradients = []
    for loss in (lambda x: basket_loss(x, TARGET, REQUEST), plain_loss):
        logits = drawn_logits().requires_grad_()
        (loss(logits) * pull).sum().backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(*gradients)
    logits, step = drawn_logits(), 1e-6
    for row, item in ((0, 1), (0, 3), (1, 2), (2, 5)):
        change = torch.zeros_like(logits)
        change[row, item] = step
        up, down = (
            (basket_loss(logits + c, TARGET, REQUEST) * pull).sum() for c in (change, -change)
        )
        assert ((up - down) / (2 * step)).item() == pytest.approx(
            gradients[0][row, item].item(), abs=1e-7
        )


def test_items_that_are_not_asked_for_get_no_gradient():
    logits = drawn_logits()
    logits[0, 0] = logits[2, 5] = -math.inf
    logits.requires_grad_()
    losses = basket_loss(logits, TARGET, REQUEST)
    losses.sum().backward()
    assert bool(losses.isfinite().all())
    assert logits.grad[0, 0] == logits.grad[2, 5] == 0
    torch.testing.assert_close(logits.grad.sum(1), torch.zeros(3, dtype=torch.float64))


def test_no_request_is_no_loss():
    none = torch.zeros(0, dtype=torch.int64)
    logits = torch.zeros(0, 6, requires_grad=True)
    loss = basket_loss(logits, none, none).sum()
    loss.backward()
    assert loss.item() == 0


def recipe_of(**settings) -> SequenceRecipe:
    base = {"kind": "sequence", "size": Size(dim=8, layers=1, heads=2)}
    return SequenceRecipe(**(base | settings))


def batch_for(world, recipe, *, exclude_seen=False):
    requests, starts = world.asked(), token_starts(world.log, recipe)
    own = request_sequences(world.log, requests, recipe, starts)
    readout = (np.arange(len(requests)), own.last_token - own.first_token)
    return build_batch(world.log, recipe, starts, own, requests, readout, exclude_seen=exclude_seen)


def test_a_silent_network_says_what_the_copy_head_counts(world):
    """All weights zero but the copy head's: own items get its value, others the item's bias."""
    here, recipe = world("baskets"), recipe_of(copy_half_lives_days=(math.inf, 10.0))
    network = SequenceNetwork(recipe, 30, None)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.item_bias[:] = torch.linspace(-1, 1, 30)
        network.copy_state.bias[:] = torch.tensor([0.5, 2.0, -1.0])
        network.copy_item.weight[4] = torch.tensor([0.25, 0.0, 3.0])
    batch = batch_for(here, recipe)
    with torch.inference_mode():
        logits = network(batch).numpy()
    requests = here.asked()
    for at in range(0, len(requests), 6):
        rows = range(here.log.offsets[requests.user[at]], requests.end[at])
        expected = np.linspace(-1, 1, 30)
        for item in {int(here.log.item[row]) for row in rows}:
            ages = [
                (requests.time_ms[at] - here.log.time_ms[row]) / 86_400_000
                for row in rows
                if here.log.item[row] == item
            ]
            plain, faded = math.log1p(len(ages)), math.log1p(sum(0.5 ** (a / 10) for a in ages))
            own = (0.25, 0.0, 3.0) if item == 4 else (0.0, 0.0, 0.0)
            expected[item] += 0.5 + own[0] + (2 + own[1]) * plain + (-1 + own[2]) * faded
        np.testing.assert_allclose(logits[at], expected, atol=1e-5)


def test_a_new_network_counts_own_items_up_and_knows_no_item_yet(world):
    recipe = recipe_of(copy_half_lives_days=(math.inf,))
    torch.manual_seed(0)
    network = SequenceNetwork(recipe, 30, None)
    assert network.copy_state.bias.tolist() == [1.0, 1.0]
    assert not network.copy_item.weight.any()
    assert not network.item_bias.any()
    assert network.ids.weight.std().item() == pytest.approx(8**-0.5, rel=0.15)


def test_item_vectors_are_learned_read_or_both():
    text = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    ids = SequenceNetwork(recipe_of(), 6, None)
    torch.testing.assert_close(ids.item_vectors(), ids.ids.weight)
    read = SequenceNetwork(recipe_of(ids=False, text="a model"), 6, text)
    torch.testing.assert_close(read.item_vectors(), text @ read.text_in.weight.T)
    both = SequenceNetwork(recipe_of(text="a model"), 6, text)
    torch.testing.assert_close(both.item_vectors(), both.ids.weight + text @ both.text_in.weight.T)
    assert read.ids is None
    assert not read.text.requires_grad  # frozen: the language model does not learn


def test_seen_items_are_not_asked_for_in_training(world):
    here, recipe = world("baskets"), recipe_of()
    network = SequenceNetwork(recipe, 30, None)
    plain, masked = (batch_for(here, recipe, exclude_seen=flag) for flag in (False, True))
    with torch.inference_mode():
        free, hidden = network(plain), network(masked)
    seen = torch.zeros_like(free, dtype=torch.bool)
    seen[masked.seen_request, masked.seen_item] = True
    assert bool(hidden[seen].isneginf().all())
    torch.testing.assert_close(hidden[~seen], free[~seen])


def test_every_weight_gets_a_gradient(world):
    """A part that nothing flows through would be a size that does nothing."""
    here, recipe = world("baskets"), recipe_of(text="a model", size=Size(dim=8, layers=2, heads=2))
    network = SequenceNetwork(recipe, 30, torch.randn(30, 5))
    requests = here.asked()
    counts = torch.from_numpy(np.diff(requests.target_offsets))
    request = torch.repeat_interleave(torch.arange(len(requests)), counts)
    target = torch.from_numpy(requests.target.astype(np.int64))
    basket_loss(network(batch_for(here, recipe)), target, request).sum().backward()
    silent = [name for name, p in network.named_parameters() if not p.grad.any()]
    assert silent == []


def test_scores_do_not_depend_on_how_many_requests_are_scored_at_once(
    world, recipes, fit_member, monkeypatch
):
    here = world("events")
    member = fit_member(recipes["sequence-groups"], here.past)
    whole = member.score(here.log, here.asked())
    monkeypatch.setattr(sequence, "_BATCH_TOKENS", 60)
    np.testing.assert_allclose(member.score(here.log, here.asked()), whole, atol=1e-5)


def test_a_few_steps_learn_a_habit(make_log):
    """Two items in turn: after some steps of plain descent the next one stands first."""
    from penchant.platform.config import Requests as Spec
    from penchant.trainers.member import Past
    from penchant.trainers.sequence.plan import TrainingPlan

    rows = [(u, t * 3_600_000, (u + t) % 2, t) for u in range(6) for t in range(12)]
    log, spec = make_log(rows, 3), Spec(unit="group")
    recipe = recipe_of(dropout=0.0, copy_half_lives_days=())
    plan = TrainingPlan(recipe, Past(log=log, spec=spec, until_ms=8 * 3_600_000))
    torch.manual_seed(0)
    network = SequenceNetwork(recipe, 3, None)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    losses = []
    for epoch in range(40):
        for chosen in plan.batches(epoch):
            step = plan.step(plan.pieces(epoch), chosen, epoch, 0, 1)
            loss = basket_loss(network(step.batch), step.target, step.target_request).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach().item())
    assert losses[-1] < 0.2 * losses[0]
    later = all_requests(log, spec, 8 * 3_600_000, 2**62)
    scores = sequence.SequenceMember(recipe=recipe, network=network).score(log, later)
    assert scores.argmax(axis=1).tolist() == later.target.tolist()
