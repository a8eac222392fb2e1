"""Labels: answers that became known after their event, and are no part of any history.

An event such as "was sent the coupons of a campaign" asks a question; whether they were redeemed
is known weeks later. Nobody who learns in between may know it, and no member ever reads it as
history: labels reach a member only as the answers of its requests.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.platform import config
from penchant.platform.errors import ConfigError, DataError
from penchant.platform.events import EventLog

__all__ = ["check_answers", "labelled_rows", "refuse_one_answer"]


def check_answers(log: EventLog, spec: config.Requests) -> None:
    """A yes or no of a `binary` task comes from the value or from the label.

    Raises:
        ConfigError: the task has neither a threshold nor labels, or it has both.
    """
    if spec.asks_labels and log.label is None:
        raise ConfigError(
            "requests.task is `binary`, but requests.positive_above is not set and the events have "
            "no labels: expected one of them. Set positive_above, or map a column to `label`."
        )
    if spec.positive_above is not None and log.label is not None:
        raise ConfigError(
            f"requests.positive_above is {spec.positive_above:g}, but the events have labels: "
            "expected one of them. Remove positive_above, or the `label` column."
        )


def labelled_rows(
    log: EventLog, start_ms: int, end_ms: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Rows with a label whose time lies in `[start_ms, end_ms)`, and which of them are a yes.

    A yes that became known at `end_ms` or later is a no: the answer ends where the span ends.
    """
    if log.label is None:  # check_answers refuses this
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_)
    inside = (log.time_ms >= start_ms) & (log.time_ms < end_ms)
    rows = np.flatnonzero(inside & ~np.isnan(log.label))
    known_ms = (log.time_ms if log.label_ms is None else log.label_ms)[rows]
    return rows, (log.label[rows] == 1) & (known_ms < end_ms)


def refuse_one_answer(label: NDArray[np.float32], place: str) -> None:
    """Nothing can be chosen or calibrated where all answers are the same.

    Args:
        label: of the requests, shape (R,).
        place: names the block, for the message.

    Raises:
        DataError: there is no label, or each is the same.
    """
    if not len(label):
        raise DataError(
            f"{place} holds no request: expected events with a label there. Move the blocks, or "
            "fill in more of the label column."
        )
    if (label == label[0]).all():
        raise DataError(
            f"{place} has {len(label)} label(s) and each is a {'yes' if label[0] else 'no'}: "
            "expected both answers. Move the blocks, or raise requests.per_block; a yes that "
            "became known after the block's end counts as a no."
        )
