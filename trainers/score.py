"""Scores of a member on a block's requests: measured, masked, kept.

What is asked of every member alike is applied here, offline and online: items that the user has had
are not asked for, when the experiment says so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penchant.platform.binary import auc, binary_per_request
from penchant.platform.events import EventLog
from penchant.platform.history import history_of, item_counts
from penchant.platform.metrics import quick_ranks, ranking_metrics
from penchant.platform.recipes import Recipe
from penchant.platform.requests import Requests
from penchant.platform.store import RunDirectory, write_json
from penchant.platform.timeline import Block, Window
from penchant.trainers.base_models import sources_of
from penchant.trainers.lineage import learned_here, write_learned
from penchant.trainers.member import Member
from penchant.trainers.text.model_card import tell_measured

__all__ = ["keep_member", "masked_scores", "seen_items"]

_TIMED = 50  # single requests whose median time is a member's cost


def seen_items(log: EventLog, requests: Requests) -> NDArray[np.bool_]:
    """Which items each user had before the request, shape (R, V)."""
    counts = item_counts(log, history_of(log, requests, Window()), [])
    seen = np.zeros((len(requests), log.num_items), dtype=bool)
    seen[counts.request, counts.item] = True
    return seen


def masked_scores(
    member: Member, log: EventLog, requests: Requests, *, exclude_seen: bool
) -> NDArray[np.float32]:
    """A member's scores; -inf at items that are not asked for. Shape (R, C)."""
    scores = member.score(log, requests)
    if exclude_seen and requests.candidate is None:
        scores = np.where(seen_items(log, requests), np.float32(-np.inf), scores)
    return scores


def keep_member(
    run: RunDirectory,
    member_id: str,
    member: Member,
    log: EventLog,
    requests: Mapping[Block, Requests],
    facts: Mapping[str, object],
    *,
    exclude_seen: bool,
    same_as: str | None = None,
) -> None:
    """Save a member, its scores on every block, and last its facts: then it counts as done.

    A model card tells how good it was on blocks that it has not learned from.

    Args:
        facts: what is kept beside its size and cost, such as `until_ms`, its cut-off; `soup_of`
            names the members whose mean it is.
        same_as: a member of the run that is known to score the same, whose scores are copied.
    """
    member.save(run.member(member_id))
    cards = sorted(run.member(member_id).rglob("README.md"))  # of what transformers loads
    _keep_lineage(run, member_id, member.recipe, facts, cards)
    measured: dict[Block, dict[str, float]] = {}
    for block, asked in requests.items():
        if same_as is None:
            scores = masked_scores(member, log, asked, exclude_seen=exclude_seen)
        else:
            scores = run.read_predictions(block, same_as, asked.row)
        run.write_predictions(block, member_id, asked.row, scores)
        if cards and _held_out(asked, facts):
            measured[block] = _means(scores, asked)
    for card in cards:
        tell_measured(card, log, facts, measured)
    kept = {
        **facts,
        "params": member.num_parameters,
        "score_ms": _milliseconds(member, log, requests[Block.SELECT]),
    }
    write_json(run.member(member_id) / "metrics.json", kept)


def _keep_lineage(
    run: RunDirectory,
    member_id: str,
    recipe: Recipe,
    facts: Mapping[str, object],
    cards: Sequence[Path],
) -> None:
    """Say beside the weights, and those that transformers loads, what they have learned from."""
    until_ms, parts = facts.get("until_ms"), facts.get("soup_of", ())
    own = [learned_here(run.log, until_ms)] if isinstance(until_ms, int) else []
    sources = sources_of(recipe)
    if isinstance(parts, Sequence):
        sources += [run.member(part) for part in parts]
    for place in {run.member(member_id), *(card.parent for card in cards)}:
        write_learned(place, own, sources)


def _held_out(requests: Requests, facts: Mapping[str, object]) -> bool:
    """Whether a block begins at the member's cut-off or later; a refit has learned from some."""
    until_ms = facts.get("until_ms")
    return not isinstance(until_ms, int) or bool((requests.time_ms >= until_ms).all())


def _means(scores: NDArray[np.float32], requests: Requests) -> dict[str, float]:
    """What a model card tells of a block."""
    if requests.label is not None:
        loss = binary_per_request(scores[:, 0], requests.label)["log_loss"]
        return {"auc": auc(scores[:, 0], requests.label), "log_loss": float(loss.mean())}
    found = ranking_metrics(quick_ranks(scores, requests, 10), requests)
    return {name: float(found[name].mean()) for name in ("ndcg@10", "recall@10")}


def _milliseconds(member: Member, log: EventLog, requests: Requests) -> float:
    """Median time of one request alone, as an endpoint would ask it."""
    seconds = []
    for at in range(min(_TIMED, len(requests))):
        one = requests.take(np.array([at]))
        began = time.perf_counter()
        member.score(log, one)
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds) * 1000)
