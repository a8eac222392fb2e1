"""Whether an artefact's members still say what they said when it was saved.

Right hashes prove that the files are those that were saved, not that this machine's libraries and
processor make the same numbers of them. An endpoint asks the same of each replica when it starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from penchant.ensembles.artefacts.self_test import SELF_TEST_FILE, SelfTest
from penchant.platform import config
from penchant.platform.errors import DataError, PenchantError
from penchant.platform.events import Catalog
from penchant.trainers.fit import load_member
from penchant.trainers.score import masked_scores

__all__ = ["refuse_other_scores"]

_AGAIN = "Save the ensemble again with this Penchant and export it again."


def refuse_other_scores(directory: Path, card: Mapping[str, Any]) -> None:
    """Ask every member the stored requests, one member after the other.

    Members with a network bring torch in, which takes seconds.

    Args:
        directory: the artefact, its hashes checked.
        card: what its ensemble.json holds.

    Raises:
        DataError: there is no self-test, or a member's scores are not those of the day it was
            saved.
    """
    try:
        test = SelfTest.read(directory, len(Catalog.open(directory).item_ids))
        asked = config.Requests.model_validate(card["requests"])
    except (OSError, SafetensorError, LookupError, ValueError, TypeError) as error:
        raise DataError(
            f"{card.get('name')} cannot be tested: {error!r}. Expected {SELF_TEST_FILE} with "
            f"requests and the scores that they got. {_AGAIN}"
        ) from error
    for name in card["weights"]:
        difference = _difference(directory, name, test, exclude_seen=asked.exclude_seen)
        if difference > 1:
            raise DataError(
                f"member {name} of {card.get('name')} fails its self-test: its scores differ from "
                f"those of the day it was saved by {difference:.0f} times what is allowed. The "
                "libraries or the processor are others than then: save the ensemble again here."
            )


def _difference(directory: Path, name: str, test: SelfTest, *, exclude_seen: bool) -> float:
    """What a member says now against what it said then, in tolerances."""
    if name not in test.scores:
        raise DataError(f"{SELF_TEST_FILE} has no scores of {name}, a member. {_AGAIN}")
    try:
        member = load_member(directory / "members" / name)
        scores = masked_scores(member, test.log, test.requests, exclude_seen=exclude_seen)
    except PenchantError:
        raise
    except Exception as error:  # whatever is wrong with a member, it is not let in
        raise DataError(
            f"member {name} cannot be asked: {error!r}. Expected one that this Penchant can load. "
            f"{_AGAIN}"
        ) from error
    return test.difference(name, scores)
