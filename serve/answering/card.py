"""Opens an ensemble's artefact for answering: its card, its catalogue, its weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from penchant.ensembles.artefacts.artefact import Ensemble, load_ensemble, read_ensemble_card
from penchant.platform import config
from penchant.platform.events import Catalog, read_log_card
from penchant.platform.recipes import Recipe
from penchant.serve.answering.desk import Desk
from penchant.serve.answering.history import Reader
from penchant.serve.answering.panel import AskMember, Panel
from penchant.serve.wire.schema import EnsembleCard, MemberCard
from penchant.trainers.member import read_card, reads_texts

__all__ = ["example_question", "open_desk", "version_of"]


def open_desk(directory: Path, ask: AskMember) -> Desk:
    """A desk for an artefact; no member is loaded.

    Args:
        directory: the artefact.
        ask: reaches a member by its id.

    Raises:
        DataError: the artefact is not whole.
    """
    ensemble = load_ensemble(directory, only=[])
    log = read_log_card(directory)
    reader = Reader(
        catalog=Catalog.open(directory),
        types=log["types"],
        has_groups=log["has_groups"],
        requests=ensemble.requests,
    )
    readers = [name for name in ensemble.weights if reads_texts(_recipe(directory, name))]
    panel = Panel(ensemble, ask, readers)
    card = _card(directory, ensemble, reader, reads=panel.refusal is None)
    return Desk(card=card, reader=reader, panel=panel)


def version_of(directory: Path) -> str:
    """Changes whenever the ensemble does."""
    return hashlib.sha256((directory / "ensemble.json").read_bytes()).hexdigest()[:12]


def example_question(directory: Path) -> tuple[str, dict[str, Any]]:
    """A path and a body that the artefact answers, to try it by hand."""
    asked = config.Requests.model_validate(read_ensemble_card(directory)["requests"])
    items, types = Catalog.open(directory).item_ids, read_log_card(directory)["types"]
    event = {"item": items[0], "time": "2020-01-02T12:00:00Z"}
    if len(types) > 1:
        event["type"] = types[0]
    if asked.task == "binary":
        return "/v1/score", {"history": [event], "candidates": items[:2]}
    return "/v1/recommend", {"history": [event], "k": 5}


def _card(directory: Path, ensemble: Ensemble, reader: Reader, *, reads: bool) -> EnsembleCard:
    asked, facts = ensemble.requests, ensemble.card
    return EnsembleCard(
        name=ensemble.name,
        version=version_of(directory),
        task=asked.task,
        unit=asked.unit,
        has_groups=reader.has_groups,
        types=list(reader.types),
        exclude_seen=asked.exclude_seen,
        normalization=ensemble.combination.normalization,
        items=len(ensemble.item_ids),
        metric=asked.metric,
        reads_texts=reads,
        data_until=facts.get("data_until"),
        test=facts.get("test", {}),
        members=[
            _member_card(directory, name, weight) for name, weight in ensemble.weights.items()
        ],
    )


def _member_card(directory: Path, member_id: str, weight: float) -> MemberCard:
    recipe = _recipe(directory, member_id)
    size = getattr(recipe, "size", None)
    return MemberCard(
        id=member_id,
        kind=recipe.kind,
        weight=weight,
        window=recipe.window.model_dump(),
        size=None if size is None else size.label,
    )


def _recipe(directory: Path, member_id: str) -> Recipe:
    return read_card(directory / "members" / member_id)[0]
