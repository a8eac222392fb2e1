"""A soup: the mean weights of members that began alike, kept as one more member.

The greedy soup of Wortsman et al. 2022: from the member that is best on `select` on, each next best
is taken in if the mean is better with it than without. `select` is where members are picked, so
that the soup is compared on `blend` and `test` like any other member, at the cost of one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from penchant.ensembles.combiners.combiner import quality
from penchant.platform.errors import ConfigError
from penchant.platform.metrics import sign_of
from penchant.platform.prepared import Prepared
from penchant.platform.timeline import Block
from penchant.trainers.fit import load_member
from penchant.trainers.mean_member import check_alike, mean_member
from penchant.trainers.member import Member, read_card
from penchant.trainers.score import keep_member, masked_scores

__all__ = ["Soup", "make_soup"]


@dataclass(frozen=True, kw_only=True)
class Soup:
    """What was made.

    Attributes:
        member_id: of the soup in the store; of the best member alone where no mean was better.
        parts: members whose mean it is, in the order in which they were taken in.
        value: target metric on `select`.
        alone: the same for each member that was tried.
    """

    member_id: str
    parts: Sequence[str]
    value: float
    alone: Mapping[str, float]


def make_soup(prepared: Prepared, member_ids: Sequence[str], tell: Callable[[str], None]) -> Soup:
    """Find the greedy soup of some members, and keep it as a member of the run.

    Raises:
        ConfigError: there are fewer than two members, or they did not begin with the same weights.
        DataError: a member or its predictions cannot be read.
    """
    run, metric = prepared.run, prepared.experiment.requests.metric
    soups = [name for name in member_ids if run.member_facts(name).get("soup_of")]
    for name in soups:
        tell(f"{name} is left out: it is a mean itself")
    member_ids = [name for name in member_ids if name not in soups]
    if len(member_ids) < 2:
        raise ConfigError(
            f"a soup is made of several members, got {', '.join(member_ids) or 'none'}. Name more, "
            "or a pattern such as `text-*`."
        )
    check_alike({name: read_card(run.member(name))[0] for name in member_ids})
    select, sign = prepared.requests[Block.SELECT], sign_of(metric)
    values = {
        name: quality(run.read_predictions(Block.SELECT, name, select.row), select, metric)
        for name in member_ids
    }
    first, *others = sorted(values, key=lambda name: -values[name])
    parts, members, best = [first], [load_member(run.member(first))], values[first]
    soup = members[0]
    tell(f"{first} alone: {metric} {sign * best:.4f} on select")
    for name in others:
        tried = [*members, load_member(run.member(name))]
        mean = mean_member(tried, _soup_id(members[0], [*parts, name]))
        exclude = prepared.experiment.requests.exclude_seen
        scores = masked_scores(mean, prepared.log, select, exclude_seen=exclude)
        value = quality(scores, select, metric)
        tell(f"with {name}: {sign * value:.4f}, {'taken in' if value > best else 'left out'}")
        if value > best:
            parts, members, soup, best = [*parts, name], tried, mean, value
    if len(parts) > 1:
        _keep(prepared, soup, parts)
    return Soup(
        member_id=first if len(parts) == 1 else str(soup.recipe.name),
        parts=parts,
        value=sign * best,
        alone={name: sign * value for name, value in values.items()},
    )


def _soup_id(first: Member, parts: Sequence[str]) -> str:
    """The same for the same members, in whatever order they were taken in."""
    digest = hashlib.sha256(" ".join(sorted(parts)).encode()).hexdigest()[:6]
    return f"{first.recipe.kind}-soup-{digest}"


def _keep(prepared: Prepared, soup: Member, parts: Sequence[str]) -> None:
    facts = [prepared.run.member_facts(name) for name in parts]
    keep_member(
        prepared.run,
        str(soup.recipe.name),
        soup,
        prepared.log,
        prepared.requests,
        {
            "train_s": sum(fact["train_s"] for fact in facts),
            "history": [],
            "until_ms": max(fact["until_ms"] for fact in facts),
            "soup_of": list(parts),
        },
        exclude_seen=prepared.experiment.requests.exclude_seen,
    )
