"""What the settings of a text member do to its loss and gradients, by hand on a few numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from penchant.platform.text_recipes import HistoryText, Lora, TextRecipe
from penchant.platform.timeline import Window
from penchant.trainers.course import Group
from penchant.trainers.text.batches import Padded
from penchant.trainers.text.loss import text_loss
from penchant.trainers.text.network import TextNetwork, build_network
from penchant.trainers.text.plan import TextPlan, TextStep
from penchant.trainers.text.words import read_words

ALONE = Group(rank=0, workers=1)
NO_TEXT = Padded(ids=torch.zeros(2, 1, dtype=torch.int64), mask=torch.ones(2, 1))


def recipe_of(**settings) -> TextRecipe:
    return TextRecipe(kind="text", base="tiny", **settings)


def asked(**parts) -> TextStep:
    given = {"pool": None, "items": 0, "log_q": None, "hidden": None, "tokens": 2}
    return TextStep(text=NO_TEXT, **(given | parts))


def test_smoothed_labels_of_yes_or_no_lie_between_them():
    """Of 0.2: yes is 0.9 and no 0.1; log-odds 2 and -1."""
    step = asked(wanted=torch.tensor([1.0, 0.0]), weight=torch.ones(2))
    chance = 1 / (1 + np.exp([-2.0, 1.0]))
    wanted = np.array([0.9, 0.1])
    expected = -(wanted * np.log(chance) + (1 - wanted) * np.log(1 - chance)).sum()
    found = text_loss(
        lambda *_: torch.tensor([2.0, -1.0]), recipe_of(label_smoothing=0.2), step, ALONE
    )
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_smoothed_targets_give_a_share_to_all_that_is_asked_for():
    """Of 0.3 over three of four items, since one is hidden; log-Q is taken off before."""
    logits, log_q = np.array([1.0, 0.5, 9.0, -1.0]), np.log([0.5, 1.0, 1.0, 0.25])
    shown = np.array([0, 1, 3])
    corrected = (logits - log_q)[shown]
    log_p = corrected - np.log(np.exp(corrected).sum())
    expected = -((0.7 * np.array([0, 1, 0]) + 0.1) * log_p).sum()
    step = asked(
        pool=object(),  # the network below looks at nothing
        items=4,
        log_q=torch.tensor(log_q, dtype=torch.float32),
        hidden=torch.tensor([[False, False, True, False]]),
        wanted=torch.tensor([[0.0, 1.0, 0.0, 0.0]]),
        weight=torch.ones(1),
    )
    network = lambda *_: torch.tensor(logits, dtype=torch.float32)[None]  # noqa: E731
    found = text_loss(network, recipe_of(label_smoothing=0.3), step, ALONE)
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def plan_of(tiny_base):
    def made(past, **settings) -> tuple[TextPlan, TextNetwork]:
        recipe = TextRecipe(
            **{"kind": "text", "base": str(tiny_base), "fit_requests": 60, "batch_requests": 16}
            | settings
        )
        network = build_network(recipe, binary=past.spec.task == "binary")
        words = read_words(recipe, past, network.base.config)
        return TextPlan(recipe, past, words.writer, words.frame, words.log_share), network

    return made


def test_a_yes_counts_as_often_as_its_weight_says(world, plan_of):
    past = world("binary").past
    losses = []
    for weight in (1.0, 3.0):
        plan, network = plan_of(past, positive_weight=weight)
        lists, batches = plan.epoch(0)
        step = plan.step(lists, batches[0], (0, 0), 0, 1)
        assert set(step.weight[step.wanted == 1].tolist()) == {weight}
        assert set(step.weight[step.wanted == 0].tolist()) == {1.0}
        losses.append(text_loss(network, plan.recipe, step, ALONE).item())
    yes, number = int(step.wanted.sum()), len(step.wanted)
    assert 0 < yes < number
    # a fresh head answers 0, so that each request costs log 2
    assert losses == pytest.approx([np.log(2) * number, np.log(2) * (number + 2 * yes)], rel=1e-5)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks
@pytest.mark.parametrize("lora", [None, Lora(rank=2)])
def test_gradient_checkpointing_computes_twice_and_changes_no_gradient(lora, world, plan_of):
    past, found = world("baskets").past, []
    for checkpointing in (False, True):
        plan, network = plan_of(past, lora=lora, gradient_checkpointing=checkpointing)
        passes = []
        layer = network.base.get_submodule("encoder.layer.0.attention.self.query")
        layer.register_forward_pre_hook(lambda *_, passes=passes: passes.append(1))
        lists, batches = plan.epoch(0)
        step = plan.step(lists, batches[0], (0, 0), 0, 1)
        network.train()
        text_loss(network, plan.recipe, step, ALONE).backward()
        gradients = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
        found.append((len(passes), gradients))
    (once, plain), (twice, again) = found
    assert twice == 2 * once >= 4  # of histories, and items of the pool
    assert plain.keys() == again.keys()
    assert any("layer.0" in name for name in plain)
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, msg=name)


def test_dropout_leaves_out_the_share_of_events_anew_in_each_epoch(world, plan_of):
    past = world("baskets").past
    alike = {"history": HistoryText(max_tokens=100), "fit_requests": 500}
    alike["window"] = Window(events=8)  # all of them find room
    plain, _ = plan_of(past, **alike, history_dropout=0.0)
    plan, _ = plan_of(past, **alike, history_dropout=0.3)
    whole = plain.epoch(0)[0]
    all_events = plain.events
    first, events = plan.epoch(0)[0], plan.events
    assert plain.epoch(1)[0].ids.tolist() == whole.ids.tolist()
    assert (events <= all_events).all()
    number = int(all_events.sum())
    assert number > 1000
    # within four standard deviations of seven tenths
    assert events.sum() / number == pytest.approx(0.7, abs=4 * np.sqrt(0.21 / number))
    assert plan.epoch(1)[0].ids.tolist() != first.ids.tolist()
    assert plan.epoch(0)[0].ids.tolist() == first.ids.tolist()
    for at in range(len(events)):  # what stays, stays in its order
        kept, known = (iter_tokens(lists, at) for lists in (first, whole))
        assert is_part(kept, known)


def iter_tokens(lists, at: int) -> list[int]:
    return lists.ids[lists.offsets[at] : lists.offsets[at + 1]].tolist()


def is_part(some: list[int], whole: list[int]) -> bool:
    """Whether `some` is what is left of `whole` where parts are left out."""
    rest = iter(whole)
    return all(token in rest for token in some)
