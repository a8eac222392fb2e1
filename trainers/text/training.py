"""Fine-tuning of one language model inside a worker group: epochs, early stopping, checkpoints.

Losses are sums over requests divided by what the *global* batch weighs, so that the curve does not
depend on how many workers share the work, nor on the ZeRO stage.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from penchant.platform.binary import auc, binary_per_request
from penchant.platform.language_models import load_tokenizer
from penchant.platform.recipes import TextRecipe, most_epochs
from penchant.platform.requests import Requests
from penchant.trainers.accelerator import moved, own_device
from penchant.trainers.course import Course, Epoch, Group, Kept
from penchant.trainers.init_from import origin, started_text_network
from penchant.trainers.member import Past
from penchant.trainers.sequence.engine import share_of_rate
from penchant.trainers.sequence.judging import judged_ranking, judged_requests
from penchant.trainers.step_log import StepLog
from penchant.trainers.text.loss import text_loss
from penchant.trainers.text.model import TextMember, Tower, item_tower, score_text
from penchant.trainers.text.network import TextNetwork, build_network
from penchant.trainers.text.plan import TextPlan
from penchant.trainers.text.start import first_rates, plan_memory, start_text
from penchant.trainers.text.words import Words, read_words
from penchant.trainers.throughput import flops_per_token
from penchant.trainers.zero.held import held_by_worker
from penchant.trainers.zero.memory_plan import Dial
from penchant.trainers.zero.stages import (
    Sharding,
    full_weights,
    gathered,
    load_sharded,
    save_sharded,
)
from penchant.trainers.zero.state import is_finite

__all__ = ["train_text"]

_JUDGED = 500  # requests of `select` that judge an epoch: a language model takes its time
_BEST = "best.safetensors"
_KEEP_EVERY_S = 300.0  # amid an epoch; what is lost at most where a training is cut
_DIALS = "learning_rate or head_learning_rate"  # too high, a loss is no number any more


def train_text(
    recipe: TextRecipe,
    past: Past,
    select: Requests,
    group: Group,
    report: Callable[[Epoch | Kept, Path | None], None],
    resume: Path | None = None,
    sharding: Sharding | Dial = "auto",
    steps: StepLog | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[TextMember | None, list[dict[str, Any]]]:
    """Train until `epochs` are done or `select` has not improved for `patience` epochs.

    Args:
        report: called by every worker after every epoch, and amid one that takes long; rank 0
            passes a checkpoint directory.
        resume: checkpoint to go on from; any number of workers and any ZeRO stage may have made it.
        sharding: how weights and optimizer are spread over the workers, or the dial for that.
        steps: is told of every step and epoch.
        tell: is told by every worker, before training, how memory is spread, what it will take, and
            how many events cannot be written.

    Returns:
        The member with the best weights on `select` (None on other workers than the first), and
        the history of epochs.

    Raises:
        ConfigError: the texts do not fit the model.
        DataError: there is nothing to read or to learn from.
        RunError: the loss is no number any more; the last good checkpoint is kept.
    """
    binary = past.spec.task == "binary"
    begun_with = origin(recipe)
    network = started_text_network(recipe, binary=binary)
    words = read_words(recipe, past, network.base.config)
    plan = TextPlan(recipe, past, words.writer, words.frame, words.log_share)
    chosen, memory = plan_memory(sharding, network, plan, group)
    tell("; ".join(filter(None, (memory, plan.left_out))))
    token_flops = flops_per_token(network)
    engine = start_text(network, recipe, chosen)
    course, best = Course(), dict[str, torch.Tensor]()
    if resume is not None:
        course = Course(**load_sharded(engine, resume)["course"])
        best = load_file(resume / _BEST) if group.rank == 0 else {}
    judged = judged_requests(select, _JUDGED)
    if steps is not None:
        steps.begin(engine, course.step, token_flops=token_flops, request_flops=0)

    def keep(told: Epoch | Kept) -> None:
        course.kept_step = course.step
        with tempfile.TemporaryDirectory() as partial:
            save_sharded(engine, {"course": vars(course)}, Path(partial), group.rank)
            if group.rank == 0:
                save_file({k: v.contiguous() for k, v in best.items()}, Path(partial) / _BEST)
            report(told, Path(partial) if group.rank == 0 else None)

    while not course.is_over(recipe):
        _train_epoch(engine, recipe, plan, course, group, steps, keep)
        with gathered(engine):
            loss, metric = _judge(engine.module, recipe, past, words, judged, group)
        course.check_loss(loss, "text", _DIALS, on_select=True)
        epoch = Epoch(
            epoch=course.next_epoch,
            epochs=most_epochs(recipe),
            train_loss=sum(course.losses) / len(course.losses),
            select_loss=loss,
            metric="auc" if binary else "ndcg@10",
            select_metric=metric,
            seconds=course.seconds,
            events_per_s=course.events / course.seconds,
        )
        course.epochs.append(vars(epoch))
        if steps is not None:
            steps.end_epoch(epoch)
        if course.takes(recipe, loss):
            best = full_weights(engine)
        course.begin_epoch(course.next_epoch + 1)
        keep(epoch)
    held = held_by_worker(engine, group)
    if group.rank != 0:
        return None, course.epochs
    facts: dict[str, Any] = {"requests": len(plan.requests), "memory": memory, "held": held}
    if begun_with is not None:
        facts["init_from"] = begun_with
    return _member(recipe, past, words, best, course, facts), course.epochs


def _train_epoch(
    engine: Any,
    recipe: TextRecipe,
    plan: TextPlan,
    course: Course,
    group: Group,
    steps: StepLog | None,
    keep: Callable[[Kept], None],
) -> None:
    """One pass, or what is left of it; what it did stands in the course."""
    epoch, done = course.next_epoch, len(course.losses)
    lists, batches = plan.epoch(epoch)
    total_steps = len(batches) * recipe.epochs
    rates = first_rates(recipe, len(engine.optimizer.param_groups))
    if steps is not None:
        steps.begin_epoch(epoch, len(batches) - done, total_steps)
    engine.train()
    began = kept = time.perf_counter()
    before_s = course.seconds
    for at, chosen in enumerate(batches[done:], done):
        loss_part = torch.zeros(1)
        tokens = events = 0
        share = share_of_rate(course.step, total_steps)
        for settings, rate in zip(engine.optimizer.param_groups, rates, strict=True):
            settings["lr"] = rate * share
        parts = plan.parts(chosen)
        parts += [chosen[:0]] * (recipe.accumulation - len(parts))
        for number, part in enumerate(parts):
            empty = not len(part)
            key = (epoch, at * recipe.accumulation + number)
            step = plan.step(lists, chosen[:1] if empty else part, key, group.rank, group.workers)
            step = moved(step, engine.device)
            loss = text_loss(engine, recipe, step, group) * (0.0 if empty else 1.0) / len(chosen)
            # DeepSpeed takes the mean over workers and over the parts of a batch
            engine.backward(loss * group.workers * recipe.accumulation)
            engine.step()
            loss_part += loss.detach().cpu()
            tokens += step.tokens
            events += int(plan.events[part[group.rank :: group.workers]].sum())
            course.events += int(plan.events[part].sum())
        now = time.perf_counter()
        due = group.rank == 0 and now - kept >= _KEEP_EVERY_S
        # alike on all, so that all stop, and keep, together
        whole, keeps = group.total(torch.tensor([float(loss_part), float(due)])).tolist()
        course.check_loss(whole, "text", _DIALS)
        course.losses.append(whole)
        course.step += 1
        course.seconds = before_s + now - began
        if steps is not None:
            steps.step(
                loss=float(loss_part),
                learning_rate=rates[0] * share,
                tokens=tokens,
                requests=len(chosen),
                events=events,
            )
        if keeps and at + 1 < len(batches):
            _keep_sound(engine, course, group, total_steps, keep)
            kept = time.perf_counter()  # however long that took


def _keep_sound(
    engine: Any, course: Course, group: Group, steps: int, keep: Callable[[Kept], None]
) -> None:
    """Keep a checkpoint, unless the last step has ruined a weight: the next one will tell."""
    if group.any(not is_finite(engine)):
        return
    loss = sum(course.losses) / len(course.losses)
    keep(Kept(epoch=course.next_epoch, step=course.step, steps=steps, loss=loss))


def _judge(
    network: TextNetwork,
    recipe: TextRecipe,
    past: Past,
    words: Words,
    judged: Requests,
    group: Group,
) -> tuple[float, float]:
    """Loss and AUC or NDCG@10 on the judged requests, which every worker scores alike."""
    tower = item_tower(network, words.writer, words.frame, words.log_share)
    scores = score_text(network, recipe, words.writer, words.frame, tower, past.log, judged)
    if judged.label is not None:
        loss = binary_per_request(scores[:, 0], judged.label)["log_loss"].mean()
        return float(loss), auc(scores[:, 0], judged.label)
    losses, ndcg = judged_ranking(scores, judged, past)
    return float(losses.mean()), float(ndcg.mean())


def _member(
    recipe: TextRecipe,
    past: Past,
    words: Words,
    best: dict[str, torch.Tensor],
    course: Course,
    facts: dict[str, Any],
) -> TextMember:
    """The best weights in a network of their own, adapters merged."""
    network = build_network(recipe, binary=past.spec.task == "binary")
    network.load_state_dict(best)
    if recipe.lora is not None:
        network.base = network.base.merge_and_unload()
    network.eval().to(own_device())
    tower: Tower = item_tower(network, words.writer, words.frame, words.log_share)
    chosen = course.epochs[course.best_epoch]
    return TextMember(
        recipe=recipe,
        network=network,
        writer=words.writer,
        frame=words.frame,
        tower=tower,
        tokenizer=load_tokenizer(recipe.base),
        facts={
            "task": past.spec.task,
            "until_ms": past.until_ms,
            **facts,
            **{name: chosen[name] for name in ("select_loss", "metric", "select_metric")},
        },
    )
