"""The mean of several members' weights, as a member: it costs what one of them costs.

Source: Wortsman et al. 2022, "Model soups": trainings that begin with the same weights often end in
one basin, whatever their settings and seeds, and a mean inside it may be better than each of them.
Between trainings that begin with weights of their own lie barriers: those are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import TypeVar

from torch import nn

from penchant.platform.errors import ConfigError
from penchant.platform.recipes import Recipe
from penchant.trainers.member import Member
from penchant.trainers.sequence.model import SequenceMember
from penchant.trainers.soup import mean_state

__all__ = ["check_alike", "mean_member"]

Network = TypeVar("Network", bound=nn.Module)

#: Settings that say where training begins and what the weights mean.
_ALIKE: Mapping[str, tuple[str, ...]] = {
    "sequence": ("init_from", "size", "text", "tokens", "copy_half_lives_days"),
    "text": ("base", "layers", "init_from", "copy_half_lives_days"),
}


def check_alike(recipes: Mapping[str, Recipe]) -> None:
    """See that members, by id, have begun with the same weights.

    Raises:
        ConfigError: they have not, or their kind has no weights that a mean could be taken of.
    """
    (first, base), *others = recipes.items()
    for name, recipe in recipes.items():
        if recipe.kind not in _ALIKE:
            raise ConfigError(
                f"{name} is a {recipe.kind} member: expected {' or '.join(_ALIKE)} members, whose "
                "weights have a mean. Name others; `mean` combines the scores of any."
            )
        if recipe.kind == "sequence" and getattr(recipe, "init_from", None) is None:
            raise ConfigError(
                f"{name} began with random weights of its own: a mean of independent random "
                "initialisations is worth nothing. Expected members with the same `init_from`, or "
                "text members of the same `base`. For epochs of one training there is `average`."
            )
        if getattr(recipe, "text_training", None) is not None:
            raise ConfigError(
                f"{name} has trained its own language model (`text_training`), which its item "
                "vectors come from: they have no mean. Name members with frozen vectors."
            )
    for name, recipe in others:
        if recipe.kind != base.kind:
            raise ConfigError(
                f"{name} is a {recipe.kind} member and {first} a {base.kind} member: expected "
                "members of one kind. Name them by patterns such as `text-*`."
            )
        for key in _ALIKE[base.kind]:
            theirs, ours = getattr(recipe, key), getattr(base, key)
            if theirs != ours:
                raise ConfigError(
                    f"{name} has {key}: {theirs}, expected {ours} as {first} has: their weights "
                    "did not begin alike, or mean other things. Leave one of them out."
                )


def mean_member(members: Sequence[Member], name: str) -> Member:
    """A member with the mean weights of several, and all else from the first of them.

    Args:
        members: alike in the sense of `check_alike`.
        name: of the new member; its recipe is else the first one's.

    Raises:
        ConfigError: they began with other files, or their weights have other shapes.
    """
    first = members[0]
    if isinstance(first, SequenceMember):
        alike = [member for member in members if isinstance(member, SequenceMember)]
        _check_origins([member.origin for member in alike])
        network = _mean([member.network for member in alike])
        recipe = first.recipe.model_copy(update={"name": name})
        return replace(first, recipe=recipe, network=network)
    from penchant.trainers.text.model import TextMember, item_tower  # brings transformers

    if not isinstance(first, TextMember):
        raise TypeError(f"{type(first).__name__} has no weights that a mean could be taken of")
    readers = [member for member in members if isinstance(member, TextMember)]
    _check_origins([member.facts.get("init_from") for member in readers])
    whole = _mean([member.network for member in readers])
    tower = item_tower(whole, first.writer, first.frame, first.tower.log_share)
    named = first.recipe.model_copy(update={"name": name})
    return replace(first, recipe=named, network=whole, tower=tower)


def _check_origins(origins: Sequence[Mapping[str, str] | None]) -> None:
    if any(origin != origins[0] for origin in origins):
        raise ConfigError(
            f"the members began with different files: {list(origins)}; expected the same. What "
            "`init_from` names has changed between their trainings: fit them again."
        )


def _mean(networks: Sequence[Network]) -> Network:
    states = [network.state_dict() for network in networks]
    for name, tensor in states[0].items():
        shapes = {tuple(state[name].shape) if name in state else None for state in states}
        if len(shapes) > 1:
            raise ConfigError(
                f"the members' {name} has the shapes {sorted(map(str, shapes))}, expected "
                f"{tuple(tensor.shape)} in all. Leave those of another shape out."
            )
    whole = deepcopy(networks[0])
    whole.load_state_dict(mean_state(states))
    return whole
