"""Members' predictions on a block of a run, refused where they cannot be judged or fitted on."""

from __future__ import annotations

from typing import TypeVar, cast

from penchant.ensembles.comparing.checks import check_cutoffs, check_predictions
from penchant.ensembles.predictions import Predictions, read_predictions
from penchant.platform.prepared import Prepared
from penchant.platform.timeline import Block

__all__ = ["read_checked"]

B = TypeVar("B", bound=Block)


def read_checked(
    prepared: Prepared, block: B, member_ids: list[str]
) -> tuple[Predictions[B], list[str]]:
    """Scores of these members from the store, and notes on what was left out or is odd.

    Raises:
        DataError: scores are missing, torn or cannot be compared, or a member has learned from the
            block or from what came after it.
    """
    start_ms, _ = prepared.blocks.span_ms(cast(Block, block))
    notes = check_cutoffs(prepared.run, member_ids, cast(Block, block), start_ms)
    judged, more = check_predictions(read_predictions(prepared, block, member_ids))
    return judged, [*notes, *more]
