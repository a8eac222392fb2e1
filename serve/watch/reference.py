"""What answers looked like before anybody was served: the ensemble's scores on the test block."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.artefacts.saved import parse_combination
from penchant.ensembles.combinations.combination import combine
from penchant.ensembles.facts import request_facts
from penchant.platform.events import EventLog
from penchant.platform.requests import read_requests
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block
from penchant.serve.answering.card import version_of

__all__ = ["Reference", "test_references"]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An ensemble on the R requests of the test block."""

    version: str  # only answers of this version may be compared with it
    scores: NDArray[np.float64]  # (R,), of the candidate, or of the best item
    metrics: Mapping[str, Any]  # name -> {mean, low, high}


def test_references(run_dir: Path, versions: Collection[str]) -> dict[str, Reference]:
    """Those ensembles of a run that have answered, by version, on its test block.

    Args:
        run_dir: the run directory.
        versions: what is wanted; others are left out.

    Raises:
        ConfigError: this is no run directory.
        DataError: scores of a member are missing.
    """
    run = RunDirectory(run_dir)
    run.manifest()
    found = {}
    for path in sorted((run_dir / "ensembles").glob("*/ensemble.json")):
        version = version_of(path.parent)
        if version in versions:
            found[version] = _reference(run, version, json.loads(path.read_text()))
    return found


def _reference(run: RunDirectory, version: str, card: Mapping[str, Any]) -> Reference:
    requests = read_requests(run.requests(Block.TEST))
    scores = {
        name: run.read_predictions(Block.TEST, name, requests.row) for name in card["weights"]
    }
    combination = parse_combination(card["combination"])
    facts = None
    if combination.needs_facts:
        facts = request_facts(EventLog.open(run.log), requests)
    return Reference(
        version=version,
        scores=combine(combination, scores, facts).max(axis=1).astype(np.float64),
        metrics=card.get("test", {}),
    )
