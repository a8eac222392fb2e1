"""Answers that are old enough, joined with what came of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from penchant.platform.intervals import Interval
from penchant.serve.watch.logged import WINDOW
from penchant.serve.watch.quality import binary_quality, ranking_quality

__all__ = ["Judged", "judge_matured"]

#: Rows of a window that figures are made from, at most: intervals are narrow by then.
_MAX_ROWS = 20_000
_COLUMNS = ("request_id", "item", "score", "probability", "user_hash", "binary")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What feedback says of a window."""

    matured: int  # answers that are old enough
    known: int  # of them, those of which something came back
    requests: int = 0  # of them, those that say something of quality
    users: int = 0  # whose they are
    quality: dict[str, Interval] = field(default_factory=dict)

    @property
    def coverage(self) -> float:
        return self.known / self.matured


def judge_matured(
    predictions: pl.LazyFrame, feedback: pl.DataFrame, until_ms: int
) -> dict[tuple[object, ...], Judged]:
    """Each window's quality, from what was answered before `until_ms` alone.

    A yes comes back sooner than a no: of answers that are younger, those that were good are known
    first, and every figure would be too high. A request id that was used twice counts once.

    Args:
        predictions: from `read_predictions`.
        feedback: from `read_feedback`.
    """
    old = predictions.filter(pl.col("answered_ms") < until_ms, pl.col("path") != "/v1/explain")
    counts = old.group_by(*WINDOW).agg(pl.col("request_id").n_unique()).collect()
    matured = {tuple(row[:-1]): row[-1] for row in counts.iter_rows()}
    known = feedback.select("request_id").unique().lazy()
    answered = (
        old.select(*WINDOW, "answered_ms", *_COLUMNS)
        .join(known, on="request_id", how="semi")
        .collect()
        .sort("answered_ms", descending=True, maintain_order=True)
        .unique(["version", "role", "request_id", "item"], keep="first", maintain_order=True)
    )
    found = {}
    for key, window in answered.partition_by(*WINDOW, as_dict=True).items():
        found[key] = _judged(window, feedback, matured[key])
    missed = {key: Judged(matured=n, known=0) for key, n in matured.items()}
    return missed | found


def _judged(window: pl.DataFrame, feedback: pl.DataFrame, matured: int) -> Judged:
    # Somebody without an id stands alone.
    window = window.with_columns(who=pl.coalesce("user_hash", "request_id"))
    binary = window["binary"].all()
    rows = _labelled(window, feedback) if binary else _chosen(window, feedback)
    found: dict[str, Interval] = {}
    if rows.height:
        found = _binary(rows) if binary else _ranking(rows)
    return Judged(
        matured=matured,
        known=window["request_id"].n_unique(),
        requests=rows["request_id"].n_unique(),
        users=rows["who"].n_unique(),
        quality={name: value for name, value in found.items() if np.isfinite(value.mean)},
    )


def _labelled(window: pl.DataFrame, feedback: pl.DataFrame) -> pl.DataFrame:
    """Answered items of which it is known whether they are a yes."""
    labelled = feedback.with_columns(yes=(pl.col("label") != "0").cast(pl.Float32))
    rows = window.join(labelled, on=["request_id", "item"]).drop_nulls(["score", "probability"])
    return rows.sample(_MAX_ROWS, seed=0) if rows.height > _MAX_ROWS else rows


def _binary(rows: pl.DataFrame) -> dict[str, Interval]:
    return binary_quality(
        rows["score"].to_numpy(),
        rows["probability"].to_numpy(),
        rows["yes"].to_numpy(),
        _numbered(rows["who"]),
    )


def _chosen(window: pl.DataFrame, feedback: pl.DataFrame) -> pl.DataFrame:
    """Items that were chosen, with their place in the answer; null where they were not shown.

    Requests of which nothing was chosen have no next item to find, and do not count.

    Items are ranked by their scores: candidates are answered in the order they were asked in.
    """
    best_first = pl.col("score").rank("ordinal", descending=True).over("request_id")
    window = window.with_columns(rank=best_first)
    asked = window.group_by("request_id", maintain_order=True).agg(pl.col("who").first())
    return (
        feedback.filter(pl.col("label") != "0")
        .join(asked, on="request_id")
        .join(window.select("request_id", "item", "rank"), on=["request_id", "item"], how="left")
    )


def _ranking(chosen: pl.DataFrame) -> dict[str, Interval]:
    users = chosen.group_by("request_id", maintain_order=True).agg(pl.col("who").first())
    place = {request_id: at for at, request_id in enumerate(users["request_id"])}
    request = np.array([place[request_id] for request_id in chosen["request_id"]])
    rank = chosen["rank"].fill_null(0).to_numpy().astype(np.int64)
    return ranking_quality(rank, request, _numbered(users["who"]))


def _numbered(names: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    _, numbers = np.unique(names.to_numpy(), return_inverse=True)
    return numbers.astype(np.int32)
