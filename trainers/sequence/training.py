"""Training of one sequence member inside a worker group: epochs, early stopping, checkpoints.

Losses are sums over requests divided by the number of requests of the *global* batch, so that the
curve does not depend on how many workers share the work.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed

from penchant.platform.recipes import SequenceRecipe, most_epochs
from penchant.platform.requests import Requests
from penchant.trainers.accelerator import moved
from penchant.trainers.course import Course, Epoch, Group
from penchant.trainers.epoch_members import epoch_recipe
from penchant.trainers.init_from import init_network, origin, text_model
from penchant.trainers.member import Past
from penchant.trainers.sequence.engine import share_of_rate
from penchant.trainers.sequence.judging import judged_ranking, judged_requests
from penchant.trainers.sequence.learner import SequenceLearner
from penchant.trainers.sequence.model import SequenceMember, copier, score_network
from penchant.trainers.sequence.network import SequenceNetwork, basket_loss
from penchant.trainers.sequence.plan import TrainingPlan
from penchant.trainers.soup import Kept, best_epochs, keep_epoch, mean_weights, weights_of
from penchant.trainers.step_log import StepLog
from penchant.trainers.throughput import flops_per_token

__all__ = ["train_sequence"]

_DIALS = "learning_rate, or that of text_training"  # too high, a loss is no number any more


def train_sequence(
    recipe: SequenceRecipe,
    past: Past,
    select: Requests,
    text: torch.Tensor | None,
    group: Group,
    report: Callable[[Epoch, Path | None], None],
    resume: Path | None = None,
    steps: StepLog | None = None,
) -> tuple[SequenceMember, list[dict[str, Any]]]:
    """Train until `epochs` are done or `select` has not improved for `patience` epochs.

    Args:
        text: item vectors, shape (V, width), when the recipe names a language model; they are
            where its training begins, if it is trained.
        report: called by every worker after every epoch; rank 0 passes a checkpoint directory.
        resume: checkpoint to go on from.
        steps: is told of every step and epoch.

    Returns:
        The member with the best weights on `select`, and the history of epochs; where a mean of
        epochs was tried, the last one tells of it as `mean`.

    Raises:
        RunError: the loss is no number any more; the last good checkpoint is kept.
    """
    begun_with = origin(recipe)
    learner = _learner(recipe, past, text, group)
    plan = TrainingPlan(recipe, past)
    course, kept = Course(), Kept()
    if resume is not None:
        kept, progress = learner.load(resume)
        course = Course(**progress["course"])
    judged = judged_requests(select)
    if steps is not None:
        steps.begin(
            learner.engine,
            course.step,
            token_flops=flops_per_token(learner.network),  # a language model's work is not counted
            request_flops=6 * past.log.num_items * recipe.size.dim,  # scores of all items
        )
    while not course.is_over(recipe):
        began = time.perf_counter()
        train_loss, events = _train_epoch(learner, recipe, plan, course, group, steps)
        seconds = time.perf_counter() - began
        loss, metric = _judge(learner.network, recipe, past, judged, group)
        course.check_loss(loss, "sequence", _DIALS, on_select=True)
        epoch = Epoch(
            epoch=course.next_epoch,
            epochs=most_epochs(recipe),
            train_loss=train_loss,
            select_loss=loss,
            metric="ndcg@10",
            select_metric=metric,
            seconds=seconds,
            events_per_s=events / seconds,
        )
        course.epochs.append(vars(epoch))
        if steps is not None:
            steps.end_epoch(epoch)
        course.takes(recipe, loss)
        most = max(recipe.average or 1, recipe.epoch_members or 1)
        wanted = _wanted(recipe, course, most)
        kept = keep_epoch(kept, wanted, course.next_epoch, learner.state)
        course.next_epoch += 1
        with tempfile.TemporaryDirectory() as partial:
            checkpoint = None
            if group.rank == 0:
                checkpoint = Path(partial)
                progress = {"course": vars(course)}
                learner.save(kept, progress, checkpoint)
            report(epoch, checkpoint)
    taken = _take_best(learner, recipe, past, course, kept, judged, group)
    member = SequenceMember(
        recipe=recipe,
        network=learner.network,
        write_text=_text_writer(recipe, learner),
        origin=begun_with,
    )
    return replace(member, epochs=_epochs(member, course, kept, taken)), course.epochs


def _take_best(
    learner: SequenceLearner,
    recipe: SequenceRecipe,
    past: Past,
    course: Course,
    kept: Kept,
    judged: Requests,
    group: Group,
) -> list[int]:
    """The mean of the best epochs where that does better on `select`, else the best epoch.

    Where the recipe says which epochs it is, `select` is not asked: it may have been learned from.

    Returns:
        The epochs that it is.
    """
    epochs = _wanted(recipe, course, recipe.average or 1)
    if recipe.kept_epochs is not None:
        learner.restore(mean_weights(kept, epochs))
        return epochs
    if len(epochs) > 1:
        learner.restore(mean_weights(kept, epochs))
        loss, metric = _judge(learner.network, recipe, past, judged, group)
        found = {"averaged": sorted(epochs), "select_loss": loss, "select_metric": metric}
        course.epochs[-1]["mean"] = found
        if loss < course.best_loss:
            return epochs
    learner.restore(weights_of(kept, course.best_epoch))
    return [course.best_epoch]


def _wanted(recipe: SequenceRecipe, course: Course, most: int) -> list[int]:
    """The epochs whose weights count, as far as is known by now, `most` where nothing says more."""
    if recipe.kept_epochs is not None:
        return [epoch - 1 for epoch in recipe.kept_epochs]
    return best_epochs(course.epochs, most)


def _epochs(
    member: SequenceMember, course: Course, kept: Kept, taken: list[int]
) -> dict[int, SequenceMember]:
    """The best epochs as members of their own, where the recipe asks for them.

    Args:
        taken: epochs that the member itself is; one that is all of it is no other member.
    """
    found = {}
    for epoch in best_epochs(course.epochs, member.recipe.epoch_members or 0):
        if [epoch] != taken:
            network = deepcopy(member.network)
            network.load_state_dict(weights_of(kept, epoch))
            recipe = epoch_recipe(member.recipe, epoch)
            found[epoch] = replace(member, recipe=recipe, network=network)
    return found


def _learner(
    recipe: SequenceRecipe, past: Past, text: torch.Tensor | None, group: Group
) -> SequenceLearner:
    """A fresh network, and the language model where the recipe trains it."""
    encoder = None
    if recipe.text is not None and recipe.text_training is not None:
        from penchant.trainers.sequence.item_encoder import build_encoder  # brings transformers

        encoder = build_encoder(text_model(recipe), recipe.text_training, past.texts, recipe.seed)
    torch.manual_seed(recipe.seed)
    network = SequenceNetwork(recipe, past.log.num_items, text)
    init_network(network, recipe)
    return SequenceLearner(recipe, network, encoder, group)


def _text_writer(
    recipe: SequenceRecipe, learner: SequenceLearner
) -> Callable[[Path], object] | None:
    """What keeps the language model behind the item vectors, if it is not the recipe's `text`."""
    if learner.encoder is not None:
        return learner.encoder.write
    if recipe.init_from is None or text_model(recipe) == recipe.text:
        return None
    return copier(Path(text_model(recipe)))


def _train_epoch(
    learner: SequenceLearner,
    recipe: SequenceRecipe,
    plan: TrainingPlan,
    course: Course,
    group: Group,
    steps: StepLog | None = None,
) -> tuple[float, int]:
    """One pass; returns the mean loss over steps and the events read, over all workers."""
    epoch = course.next_epoch
    pieces, batches = plan.pieces(epoch), plan.batches(epoch)
    total_steps = len(batches) * recipe.epochs
    losses, events = torch.zeros(len(batches)), 0
    if steps is not None:
        steps.begin_epoch(epoch, len(batches), total_steps)
    learner.begin_epoch()
    for at, chosen in enumerate(batches):
        step = plan.step(pieces, chosen, epoch, group.rank, group.workers)
        step = moved(step, learner.engine.device)
        rate = learner.set_rates(course.step, total_steps)
        logits = learner.logits(step, (epoch, at))
        loss = basket_loss(logits, step.target, step.target_request).sum() / step.global_requests
        learner.engine.backward(loss * group.workers)  # DeepSpeed takes the mean over workers
        learner.engine.step()
        losses[at] = loss.detach()
        whole = group.total(losses[at].clone())  # alike on all, so that all stop together
        course.check_loss(float(whole), "sequence", _DIALS)
        events += step.events
        course.step += 1
        if steps is not None:
            steps.step(
                loss=float(losses[at]),
                learning_rate=rate,
                tokens=len(step.batch.time_features),
                requests=step.global_requests,
                events=step.events,
            )
    learner.end_epoch(share_of_rate(course.step - len(batches) // 2, total_steps))
    counted = group.total(torch.tensor([float(events)], dtype=torch.float64))
    return float(group.total(losses).mean()), int(counted.item())


def _judge(
    network: SequenceNetwork, recipe: SequenceRecipe, past: Past, judged: Requests, group: Group
) -> tuple[float, float]:
    """Loss and NDCG@10 on the judged requests, shared among the workers."""
    mine = judged.take(np.arange(group.rank, len(judged), group.workers))
    sums = torch.zeros(3, dtype=torch.float64)
    if len(mine):
        scores = score_network(network, recipe, past.log, mine)
        losses, ndcg = judged_ranking(scores, mine, past)
        sums = torch.tensor([float(losses.sum()), float(ndcg.sum()), len(mine)]).double()
    loss, metric, number = group.total(sums).tolist()
    return loss / number, metric / number
