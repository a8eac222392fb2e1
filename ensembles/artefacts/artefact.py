"""The ensemble artefact: members, weights and catalogue in one directory that Serve can load.

    ensembles/<name>/ensemble.json  items.arrow  self_test.safetensors  members/<id>/...

It holds copies of its members, so that it loads without the run directory's other parts, and the
SHA-256 of every file, which is checked before anything is loaded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.artefacts.saved import parse_combination
from penchant.ensembles.artefacts.self_test import SelfTest
from penchant.ensembles.combinations.combination import Combination, combine
from penchant.ensembles.facts import request_facts
from penchant.ensembles.promises.calibrate import Calibrator, Identity, parse_calibrator
from penchant.platform import config
from penchant.platform.errors import DataError
from penchant.platform.events import Catalog, EventLog
from penchant.platform.requests import Requests, read_requests
from penchant.platform.store import RunDirectory, file_digest, write_json
from penchant.platform.swap import swap_in, workspace
from penchant.platform.timeline import Block
from penchant.trainers.fit import load_member
from penchant.trainers.member import Member
from penchant.trainers.score import masked_scores

__all__ = [
    "ENSEMBLE_VERSION",
    "Ensemble",
    "load_ensemble",
    "read_ensemble_card",
    "save_ensemble",
]

#: Version of the artefact; another version is refused.
ENSEMBLE_VERSION = 3


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Members and how they are combined, ready to score."""

    name: str
    members: Mapping[str, Member]
    combination: Combination
    requests: config.Requests
    item_ids: list[str]
    card: dict[str, Any]  # metrics, data window, versions: what `/v1/ensemble` would show
    calibrator: Calibrator | None = None

    def member_scores(
        self, member_id: str, log: EventLog, requests: Requests
    ) -> NDArray[np.float32]:
        """One member's scores as they stand in the prediction store, shape (R, C)."""
        excluded = self.requests.exclude_seen
        return masked_scores(self.members[member_id], log, requests, exclude_seen=excluded)

    @property
    def weights(self) -> Mapping[str, float]:
        """How much each member counts; the sum is 1."""
        return self.combination.shares

    def facts(self, log: EventLog, requests: Requests) -> NDArray[np.float32] | None:
        """What the combination looks at beside scores, shape (R, F); None where at nothing."""
        return request_facts(log, requests) if self.combination.needs_facts else None

    def combine(
        self, scores: Mapping[str, NDArray[np.float32]], facts: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Scores of the members that answered, combined; shape (R, C)."""
        return combine(self.combination, scores, facts)

    def probabilities(self, scores: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """Chances from combined scores, shape (R, C); None where nobody has calibrated them.

        `binary`: the chance of a yes. `next_item`: that the item is the next one, in all 1.
        """
        if self.calibrator is not None:
            return self.calibrator.probabilities(scores)
        # Members of a binary task give log-odds, and so does their mean.
        return Identity().probabilities(scores) if self.requests.task == "binary" else None

    def score(self, log: EventLog, requests: Requests) -> NDArray[np.float32]:
        """The ensemble's scores, shape (R, C)."""
        scores = {m: self.member_scores(m, log, requests) for m in self.weights}
        return self.combine(scores, self.facts(log, requests))


def save_ensemble(
    run: RunDirectory,
    name: str,
    combination: Combination,
    requests: config.Requests,
    facts: Mapping[str, Any],
    *,
    suffix: str = "",
    test: SelfTest | None = None,
) -> Path:
    """Copy the members into an artefact, which takes the place of an older one when it is whole.

    Args:
        suffix: of the members' ids in the run directory, where a refit is to be saved.
        test: what replicas ask themselves; by default requests of the run's test block.
    """
    place = run.ensemble(name)
    with workspace(place) as work:
        new = work / "new"
        for member_id in combination.shares:
            shutil.copytree(run.member(member_id + suffix), new / "members" / member_id)
        shutil.copy(run.log / "items.arrow", new / "items.arrow")
        shutil.copy(run.log / "log.json", new / "log.json")
        if test is None:
            test = SelfTest.draw(EventLog.open(run.log), read_requests(run.requests(Block.TEST)))
        _write_self_test(new, test, list(combination.shares), requests)
        files = sorted(path for path in new.rglob("*") if path.is_file())
        card = {
            "version": ENSEMBLE_VERSION,
            "name": name,
            "weights": dict(combination.shares),
            "combination": combination.model_dump(mode="json"),
            "requests": requests.model_dump(mode="json"),
            "sha256": {str(path.relative_to(new)): file_digest(path) for path in files},
            **facts,
        }
        write_json(new / "ensemble.json", card)
        swap_in(new, place, work)
    return place


def _write_self_test(
    directory: Path, test: SelfTest, members: Sequence[str], asked: config.Requests
) -> None:
    """Scores of the copies, each loaded as an endpoint would load it."""
    scores = {}
    for name in members:
        member = load_member(directory / "members" / name)
        scores[name] = masked_scores(
            member, test.log, test.requests, exclude_seen=asked.exclude_seen
        )
    test.write(directory, scores)


def read_ensemble_card(directory: Path) -> dict[str, Any]:
    """The artefact's card, with every file checked against its hash.

    Raises:
        DataError: the artefact is missing, of another version, or not as it was written.
    """
    path = directory / "ensemble.json"
    if not path.exists():
        raise DataError(
            f"{directory} holds no ensemble: expected an ensemble.json, which is written last. "
            "Make one with `penchant run EXPERIMENT.yaml`."
        )
    card: dict[str, Any] = json.loads(path.read_text())
    if card.get("version") != ENSEMBLE_VERSION:
        raise DataError(
            f"{path} has version {card.get('version')!r}, expected {ENSEMBLE_VERSION}. "
            "Run `penchant ensemble compare` again with this Penchant."
        )
    for member_id in card["weights"]:
        if not _is_name(member_id):
            raise DataError(
                f"{path} names a member {member_id!r}, expected the name of a directory in "
                "members/. It was not written by Penchant: do not use it."
            )
    known = {f"members/{member_id}/member.json" for member_id in card["weights"]}
    for name in known.difference(card["sha256"]):
        raise DataError(f"{path} lists no hash of {name}: expected one of each member's files.")
    for name, digest in card["sha256"].items():
        file = directory / name
        inside = file.resolve().is_relative_to(directory.resolve())
        if not inside or not file.is_file() or file_digest(file) != digest:
            raise DataError(
                f"{file} is missing or is not the file that was saved (expected SHA-256 "
                f"{digest[:12]}...). Run `penchant ensemble compare` to save the ensemble again."
            )
    return card


def _is_name(member_id: str) -> bool:
    """Whether it names a directory inside another one, and not a way out of it."""
    return member_id not in ("", ".", "..") and not set(member_id) & set("/\\\0")


def load_ensemble(directory: Path, only: Sequence[str] | None = None) -> Ensemble:
    """Load an artefact, or only some of its members, after checking every file's hash."""
    card = read_ensemble_card(directory)
    chosen = list(card["weights"]) if only is None else list(only)
    return Ensemble(
        name=card["name"],
        members={m: load_member(directory / "members" / m) for m in chosen},
        combination=parse_combination(card["combination"]),
        requests=config.Requests.model_validate(card["requests"]),
        item_ids=Catalog.open(directory).item_ids,
        card=card,
        calibrator=parse_calibrator(card["calibrator"]) if "calibrator" in card else None,
    )
