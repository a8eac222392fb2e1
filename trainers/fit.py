"""Fitting one member that needs no workers of its own: a Ray task."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from penchant.platform.cluster import stand_at
from penchant.platform.item_vectors import item_vectors
from penchant.platform.prepared import Prepared, open_prepared
from penchant.platform.recipes import (
    BoostedRecipe,
    ItemItemRecipe,
    PersonalRecipe,
    PopularityRecipe,
    Recipe,
    TextRecipe,
    ZeroShotRecipe,
    recipe_id,
)
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block
from penchant.trainers.boosted.model import BoostedMember, fit_boosted
from penchant.trainers.counting.item_item import ItemItemMember, fit_item_item
from penchant.trainers.counting.personal import PersonalMember, fit_personal
from penchant.trainers.counting.popularity import PopularityMember, fit_popularity
from penchant.trainers.member import Member, Past, read_card
from penchant.trainers.note import Note
from penchant.trainers.score import keep_member

__all__ = ["encode_items", "fit_and_keep", "fit_baseline", "learned_from", "load_member"]


def fit_baseline(
    recipe: Recipe, past: Past, tell: Callable[[str], None] = lambda _: None
) -> Member:
    """Fit any member that needs no worker group, in this process.

    Args:
        tell: is told how far a member is that takes long to ask.
    """
    match recipe:
        case PopularityRecipe():
            return fit_popularity(recipe, past)
        case PersonalRecipe():
            return fit_personal(recipe, past)
        case ItemItemRecipe():
            return fit_item_item(recipe, past)
        case BoostedRecipe():
            return fit_boosted(recipe, past)
        case ZeroShotRecipe():
            # brings torch and transformers
            from penchant.trainers.text.zero_shot import fit_zero_shot

            return fit_zero_shot(recipe, past, tell)
    raise TypeError(f"{recipe.kind} members are trained by a worker group, not in one task")


def load_member(directory: Path) -> Member:
    """Any saved member."""
    recipe, _ = read_card(directory)
    match recipe:
        case PopularityRecipe():
            return PopularityMember.load(directory)
        case PersonalRecipe():
            return PersonalMember.load(directory)
        case ItemItemRecipe():
            return ItemItemMember.load(directory)
        case BoostedRecipe():
            return BoostedMember.load(directory)
        case ZeroShotRecipe():
            from penchant.trainers.text.zero_shot import ZeroShotMember

            return ZeroShotMember.load(directory)
        case TextRecipe():
            from penchant.trainers.text.model import TextMember

            return TextMember.load(directory)
    # torch is needed for these kinds alone
    from penchant.trainers.sequence.model import SequenceMember

    return SequenceMember.load(directory)


def learned_from(prepared: Prepared, until_ms: int) -> Past:
    """All that members may learn from before a cut-off."""
    return Past(
        log=prepared.log,
        spec=prepared.experiment.requests,
        until_ms=until_ms,
        texts=prepared.catalog.item_texts,
        types=prepared.types,
        vectors=prepared.run.log / "vectors",
    )


def fit_and_keep(
    root: str,
    recipe: dict[str, object],
    until_ms: int,
    suffix: str,
    blocks: Sequence[str],
    directory: str,
) -> float:
    """Fit a recipe, score the blocks, keep both; returns seconds of fitting.

    Args:
        directory: where relative paths begin.
    """
    stand_at(directory)
    prepared = open_prepared(RunDirectory(Path(root)))
    checked: Recipe = TypeAdapter[Recipe](Recipe).validate_python(recipe)
    spec = prepared.experiment.requests
    began = time.perf_counter()
    name = recipe_id(checked)
    with Note(prepared.run.member(name + suffix)) as note:
        member = fit_baseline(checked, learned_from(prepared, until_ms), note)
        seconds = time.perf_counter() - began
        # What learns nothing scores the same whatever its cut-off, and it may take long to ask it.
        before = suffix and checked.kind == "zero_shot" and prepared.run.has_member(name)
        keep_member(
            prepared.run,
            name + suffix,
            member,
            prepared.log,
            {Block(block): prepared.requests[Block(block)] for block in blocks},
            {"train_s": seconds, "history": [], "until_ms": until_ms},
            exclude_seen=spec.exclude_seen,
            same_as=name if before else None,
        )
    return seconds


def encode_items(root: str, text: str, directory: str) -> None:
    """Make the item vectors of a language model once, for all workers to read."""
    stand_at(directory)
    prepared = open_prepared(RunDirectory(Path(root)))
    item_vectors(text, prepared.catalog.item_texts, prepared.run.log / "vectors")
