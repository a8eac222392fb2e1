"""Further pretraining inside a worker group: steps, checkpoints, perplexities.

Losses are sums divided by what the *global* batch asks, so that the curve does not depend on how
many workers share the work, nor on the ZeRO stage.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from penchant.trainers.course import Epoch, Group
from penchant.trainers.pretrain.corpus import Corpus
from penchant.trainers.pretrain.engine import Ready, start_pretraining
from penchant.trainers.pretrain.judging import check_loss, judge_base, judge_step
from penchant.trainers.pretrain.network import asked_loss, frequency_perplexity
from penchant.trainers.pretrain.plan import Asked, PretrainSettings, batch_rows, drawn, total_steps
from penchant.trainers.sequence.engine import share_of_rate
from penchant.trainers.step_log import StepLog
from penchant.trainers.zero.held import held_by_worker
from penchant.trainers.zero.memory_plan import Dial
from penchant.trainers.zero.stages import (
    Sharding,
    full_weights,
    load_sharded,
    save_sharded,
)

__all__ = ["Pretrained", "Stand", "pretrain_model"]

_JUDGED_ROWS = 8  # of each worker: held out, to see whether a checkpoint is worth keeping


@dataclass(frozen=True, kw_only=True)
class Stand:
    """Where a pretraining stands."""

    step: int
    steps: int
    loss: float  # mean since the last report
    tokens_per_s: float


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Weights of the model by name, and what is to be said of them."""

    weights: dict[str, Tensor]
    facts: dict[str, Any]


@dataclass
class _Course:
    step: int = 0
    losses: list[float] = field(default_factory=list)  # of each step
    tokens: int = 0
    seconds: float = 0.0
    before: dict[str, float] = field(default_factory=dict)  # perplexities of the base
    kept_step: int = 0  # the last one with a checkpoint
    after: float = math.nan  # loss on all held-out rows, once all steps are made


def pretrain_model(
    settings: PretrainSettings,
    corpus: Corpus,
    group: Group,
    report: Callable[[Stand, Path | None], None],
    resume: Path | None = None,
    sharding: Sharding | Dial = "auto",
    tell: Callable[[str], None] = lambda _: None,
    log: StepLog | None = None,
) -> Pretrained | None:
    """Train over all steps; the result stands on the first worker, the others have None.

    Args:
        report: called by every worker before the first step and then now and again; rank 0 passes
            a checkpoint with some calls.
        resume: checkpoint to go on from; any number of workers and any ZeRO stage may have made it.
        sharding: how weights and optimizer are spread over the workers.
        tell: is told by every worker, before training, what it will take.
        log: is told of every step, and at the end of the held-out loss.

    Raises:
        ConfigError: the model does not fit the memory.
        RunError: the loss or a weight is no number any more; the last good checkpoint is kept.
    """
    ready = start_pretraining(settings, corpus.rows, group, sharding)
    engine = ready.engine
    tell(ready.memory)
    held_out = ready.asker.ask(corpus.held_out, drawn(settings, "held out"))
    course = _Course()
    if resume is not None:
        course = _Course(**load_sharded(engine, resume)["course"])
        course.kept_step = course.step
    else:
        losses = judge_base(engine, held_out, group, embeddings=bool(ready.fresh))
        course.before = {name: _perplexity(loss) for name, loss in losses.items()}
    if log is not None:
        log.begin(engine, course.step, token_flops=ready.token_flops, request_flops=0)
    _train(ready, held_out, course, report, log)
    weights = {name.removeprefix("model."): t for name, t in full_weights(engine).items()}
    held = held_by_worker(engine, group)
    if group.rank:
        return None
    words = engine.module.model.config.get_text_config().vocab_size
    facts = {
        "perplexity": {
            "frequencies": frequency_perplexity(corpus.rows, held_out, words),
            **{f"before_{name}": value for name, value in course.before.items()},
            "after": _perplexity(course.after),
            "asked_tokens": len(held_out.answers),
        },
        "fresh": [name.removeprefix("model.") for name in ready.fresh],
        "parameters": ready.parameters,
        "losses": course.losses,
        "tokens": course.tokens,
        "seconds": course.seconds,
        "workers": group.workers,
        "memory": ready.memory,
        "held": held,
    }
    return Pretrained(weights=weights, facts=facts)


def _train(
    ready: Ready,
    held_out: Asked,
    course: _Course,
    report: Callable[[Stand, Path | None], None],
    log: StepLog | None,
) -> None:
    """All steps that are left, told fifty times or each fifty steps, kept ten times or each 500."""
    engine, steps = ready.engine, total_steps(ready.settings, len(ready.rows))
    told, kept = min(math.ceil(steps / 50), 50), min(math.ceil(steps / 10), 500)
    rates = [one["lr"] for one in engine.optimizer.param_groups]
    engine.train()
    if log is not None:
        log.begin_epoch(0, steps - course.step, steps)
    report(Stand(step=course.step, steps=steps, loss=_last_loss(course), tokens_per_s=0.0), None)
    began, since, read = time.perf_counter(), course.step, course.tokens
    while course.step < steps:
        share = share_of_rate(course.step, steps)
        for one, rate in zip(engine.optimizer.param_groups, rates, strict=True):
            one["lr"] = rate * share
        loss, tokens = _step(ready, course.step)
        check_loss(loss, f"at step {course.step + 1}", course.kept_step)
        course.losses.append(loss)
        course.tokens += tokens
        course.step += 1
        if log is not None:
            _tell_step(log, ready, loss, tokens, rates[0] * share)
        keep = course.step % kept == 0 or course.step == steps
        if not keep and course.step % told:
            continue
        seconds = time.perf_counter() - began
        course.seconds += seconds
        stand = Stand(
            step=course.step,
            steps=steps,
            loss=float(np.mean(course.losses[since:])),
            tokens_per_s=(course.tokens - read) / seconds,
        )
        if keep:
            _judge(ready, held_out, course, last=course.step == steps)
        _report(ready, course, stand, keep, report)
        began, since, read = time.perf_counter(), course.step, course.tokens
    if log is not None:
        log.end_epoch(_as_epoch(course))


def _tell_step(log: StepLog, ready: Ready, loss: float, tokens: int, rate: float) -> None:
    """Loss and tokens are sums over all workers already: the first one alone tells them."""
    first = ready.group.rank == 0
    log.step(
        loss=loss if first else 0.0,
        learning_rate=rate,
        tokens=tokens if first else 0,
        requests=ready.settings.batch_sequences,
    )


def _as_epoch(course: _Course) -> Epoch:
    """All steps are one epoch, judged by the held-out histories."""
    return Epoch(
        epoch=0,
        epochs=1,
        train_loss=float(np.mean(course.losses)),
        select_loss=course.after,
        metric="perplexity",
        select_metric=_perplexity(course.after),
        seconds=course.seconds,
        events_per_s=0.0,
    )


def _perplexity(loss: float) -> float:
    """Infinite, not an error, where it is too large for a number."""
    return float(torch.tensor(loss, dtype=torch.float64).exp())


def _last_loss(course: _Course) -> float:
    """Of the last step, or on the held-out histories before the first one."""
    return course.losses[-1] if course.losses else math.log(course.before["model"])


def _judge(ready: Ready, held_out: Asked, course: _Course, *, last: bool) -> None:
    """See that the weights are worth a checkpoint: at the end by all rows, before it by a few."""
    group = ready.group
    few = np.arange(min(_JUDGED_ROWS * group.workers, len(held_out.ids)))
    asked = held_out if last else held_out.take(few)
    loss = judge_step(ready.engine, asked, group, course.step, course.kept_step)
    course.kept_step = course.step
    if last:
        course.after = loss


def _report(
    ready: Ready,
    course: _Course,
    stand: Stand,
    keep: bool,
    report: Callable[[Stand, Path | None], None],
) -> None:
    if not keep:
        report(stand, None)
        return
    with tempfile.TemporaryDirectory() as partial:
        save_sharded(ready.engine, {"course": vars(course)}, Path(partial), ready.group.rank)
        report(stand, Path(partial) if ready.group.rank == 0 else None)


def _step(ready: Ready, step: int) -> tuple[float, int]:
    """One update; its loss, and the tokens that were read, over all workers."""
    engine, group, parts = ready.engine, ready.group, ready.parts
    chosen = ready.rows.take(batch_rows(ready.settings, len(ready.rows), step))
    asked = ready.asker.ask(chosen, drawn(ready.settings, "mask", step))  # alike on every worker
    number = max(len(asked.answers), 1)
    total = torch.zeros(1, dtype=torch.float64)
    for part in np.array_split(np.arange(len(chosen)), parts):
        mine = part[group.rank :: group.workers]
        counts = float(len(mine) > 0)  # a worker without rows takes part, but counts nothing
        own = asked.take(mine if len(mine) else np.zeros(1, dtype=np.int64))
        loss = asked_loss(engine(own), own) * counts / number
        # DeepSpeed takes the mean over workers and over the parts of a batch
        engine.backward(loss * group.workers * parts)
        engine.step()
        total += loss.detach().cpu()
    return float(group.total(total)), int(asked.mask.sum())
