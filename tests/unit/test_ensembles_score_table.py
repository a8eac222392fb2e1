"""Scores of any models, from a table alone: laid out by request, or refused."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from penchant.ensembles.comparing.foreign import read_scores
from penchant.platform.errors import ConfigError, DataError

MAY, JUNE = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC)
CUT = datetime(2024, 5, 20, tzinfo=UTC)

#: Two requests of blend, of 3 and 2 candidates, and one of test; rows in no order.
SMALL = pl.DataFrame(
    [
        ("r9", "anna", JUNE, "milk", 1, True, 0.9, 9.0),
        ("r1", "anna", MAY, "milk", 0, False, 0.1, 1.0),
        ("r2", "bert", MAY, "milk", 1, True, 0.4, 4.0),
        ("r1", "anna", MAY, "bread", 1, False, 0.2, 2.0),
        ("r9", "anna", JUNE, "bread", 0, False, 0.8, 8.0),
        ("r2", "bert", MAY, "bread", 1, False, 0.5, 5.0),
        ("r1", "anna", MAY, "jam", 0, True, 0.3, 3.0),
    ],
    schema=["request", "user", "time", "candidate", "target", "seen", "a", "b"],
    orient="row",
)


def test_candidates_become_columns_in_the_order_of_their_ids_and_short_rows_end_in_minus_inf():
    """r1 asked bread, jam, milk; r2 bread, milk."""
    scores = read_scores(SMALL, blend_until=CUT)
    blend = scores.blend
    nothing = -np.inf
    expected = {"a": [[0.2, 0.3, 0.1], [0.5, 0.4, nothing]], "b": [[2, 3, 1], [5, 4, nothing]]}
    for name, values in expected.items():
        np.testing.assert_array_equal(blend.scores[name], np.array(values, dtype=np.float32))
    assert blend.requests.target.tolist() == [0, 0, 1]
    assert blend.requests.target_offsets.tolist() == [0, 1, 3]
    assert blend.requests.target_seen.tolist() == [False, False, True]
    assert blend.requests.user.tolist() == [0, 1]
    assert scores.test.requests.user.tolist() == [0]
    assert scores.test.requests.row.tolist() == [2]
    assert scores.test.requests.time_ms.tolist() == [1_717_200_000_000]
    np.testing.assert_array_equal(scores.seen, [[False, True]])
    assert scores.blend.facts is None


def same(one, other) -> None:
    for mine, theirs in ((one.blend, other.blend), (one.test, other.test)):
        assert list(mine.scores) == list(theirs.scores)
        for name, part in mine.scores.items():
            np.testing.assert_array_equal(part, theirs.scores[name])
        for field, value in vars(mine.requests).items():
            np.testing.assert_array_equal(value, getattr(theirs.requests, field))


def test_the_order_of_rows_decides_nothing():
    same(
        read_scores(SMALL.sample(fraction=1.0, shuffle=True, seed=3), blend_until=CUT),
        read_scores(SMALL, blend_until=CUT),
    )


def test_blocks_are_told_by_a_time_a_column_or_two_tables_alike(tmp_path):
    by_time = read_scores(SMALL, blend_until=CUT)
    late = pl.col("time") >= CUT
    block = pl.when(late).then(pl.lit("test")).otherwise(pl.lit("blend"))
    same(read_scores(SMALL.with_columns(block=block)), by_time)
    SMALL.filter(~late).write_parquet(tmp_path / "blend.parquet")
    SMALL.filter(late).select(reversed(SMALL.columns)).write_parquet(tmp_path / "test.parquet")
    same(read_scores(tmp_path / "blend.parquet", str(tmp_path / "test.parquet")), by_time)


@pytest.mark.parametrize(
    "time",
    [
        pl.col("time").dt.epoch("ms"),
        pl.col("time").dt.replace_time_zone(None),
        pl.col("time").dt.date(),
        pl.col("time").dt.to_string("iso"),
    ],
)
def test_a_time_may_be_of_any_usual_type(time):
    same(
        read_scores(SMALL.with_columns(time), blend_until=CUT), read_scores(SMALL, blend_until=CUT)
    )


def test_a_binary_table_has_a_label_and_a_log_odds_each():
    """r1 and r2 are of blend; jam is the second of the ids that are there."""
    other = SMALL.filter(request="r9", candidate="bread").with_columns(request=pl.lit("r8"))
    chosen = pl.DataFrame(
        {"request": ["r1", "r2", "r8", "r9"], "candidate": ["jam", "bread", "bread", "milk"]}
    )
    frame = pl.concat([SMALL, other]).join(chosen, on=["request", "candidate"])
    scores = read_scores(frame, task="binary", blend_until=CUT)
    requests = scores.blend.requests
    np.testing.assert_array_equal(scores.blend.scores["b"], [[3], [5]])
    assert requests.label.tolist() == [0, 1]
    assert requests.candidate.tolist() == [1, 0]
    assert len(requests.target) == 0
    assert scores.seen is None


@pytest.mark.parametrize("ways", [{}, {"blend_until": CUT, "test": SMALL}])
def test_blocks_told_in_no_way_or_two_ways_are_refused(ways):
    with pytest.raises(ConfigError, match="blocks are told by .*: expected exactly one of"):
        read_scores(SMALL, **ways)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop("user", "target"), "no column user, target. Received request .String."),
        (lambda t: t.drop("a", "b"), "no column with scores"),
        (lambda t: t.with_columns(n=1), "columns of another type: n"),
        (lambda t: t.with_columns(seen=1), "columns of another type: seen"),
        (lambda t: t.with_columns(user=1.5), "columns of another type: user"),
        (lambda t: t.with_columns(time=[1]), "columns of another type: time"),
        (lambda t: t.clear(), "the table has no rows"),
        (lambda t: t.with_columns(target=2), "column target has values such as 2"),
        (lambda t: t.with_columns(target=pl.lit("yes")), "column target has values such as 'yes'"),
        (lambda t: t.with_columns(time=pl.lit("soon")), "time: 7 of 7 values are missing or"),
        (lambda t: t.with_columns(user=pl.lit(None, pl.String)), "user: 7 of 7 values are missing"),
        (lambda t: pl.concat([t, t[1:2]]), "2 rows share request and candidate .* request r1, can"),
        (
            lambda t: t.with_columns(user=pl.col("candidate")),
            r"3 request id\(s\) stand for several users, times or blocks \(first: r1\)",
        ),
        (lambda t: t.filter(candidate="milk"), "every request has one candidate"),
        (
            lambda t: t.with_columns(b=pl.when(pl.col("b") > 3).then("b")),
            "b has no score in 3 of 7 rows",
        ),
        (
            lambda t: t.with_columns(b=pl.when(pl.col("b") > 3).then("b").otherwise(np.nan)),
            "blend: b has 3 scores that are NaN or infinite .first: request r1.",
        ),
        (
            lambda t: t.with_columns(b=pl.when(pl.col("b") > 4).then("b").otherwise(-np.inf)),
            "blend: b has 4 .* the first member has not",
        ),
        (lambda t: t.with_columns(b=pl.col("b") * 1e300), "b has 5 scores that are NaN or inf"),
        (lambda t: t.with_columns(target=0), "blend: none of 2 requests has a target"),
    ],
)
def test_a_wrong_table_is_refused_with_what_is_wrong(change, message):
    with pytest.raises(DataError, match=message):
        read_scores(change(SMALL), blend_until=CUT)


def test_blocks_that_are_mixed_up_are_refused():
    early = pl.col("time") < CUT
    turned = SMALL.with_columns(
        block=pl.when(early).then(pl.lit("test")).otherwise(pl.lit("blend"))
    )
    with pytest.raises(DataError, match="blocks are mixed up: 2 of 2 requests of test"):
        read_scores(turned)
    with pytest.raises(DataError, match="column block holds select; expected only blend and test"):
        read_scores(SMALL.with_columns(block=pl.lit("select")))
    with pytest.raises(DataError, match=r"3 request id\(s\) stand for several .*blocks"):
        read_scores(SMALL, SMALL)
    with pytest.raises(DataError, match=r"blend has 3 request\(s\) and test 0"):
        read_scores(SMALL, blend_until=datetime(2030, 1, 1, tzinfo=UTC))


def test_two_tables_of_other_columns_are_refused():
    with pytest.raises(DataError, match="the models a, b, that of test a; expected the same"):
        read_scores(SMALL, SMALL.drop("b"))
    with pytest.raises(DataError, match="one table has the column seen, expected it in both or"):
        read_scores(SMALL, SMALL.drop("seen"))


def test_several_rows_of_a_binary_request_are_refused():
    with pytest.raises(DataError, match=r"3 request id\(s\) have more than one row \(first: r1\)"):
        read_scores(SMALL, task="binary", blend_until=CUT)


def test_no_parquet_file_is_refused(tmp_path):
    (tmp_path / "scores.parquet").write_text("request,user")
    for name in ("scores.parquet", "missing.parquet"):
        with pytest.raises(DataError, match=f"{name} cannot be read: .* Expected a Parquet file"):
            read_scores(tmp_path / name, blend_until=CUT)


@pytest.mark.parametrize("offset", [1.7e9, -1.7e12])
def test_scores_that_lie_close_together_far_from_zero_stay_apart(offset):
    """A last purchase in seconds or milliseconds: as 32-bit floats they would be one number."""
    far = SMALL.with_columns(a=pl.col("a").cast(pl.Float64) + offset)
    scores = read_scores(far, blend_until=CUT)
    expected = read_scores(SMALL, blend_until=CUT)
    for found, plain in ((scores.blend, expected.blend), (scores.test, expected.test)):
        rows = plain.scores["a"]
        known = np.isfinite(rows)
        moved = rows - np.max(rows, axis=1, where=known, initial=-np.inf)[:, None]
        np.testing.assert_allclose(found.scores["a"][known], moved[known], atol=1e-3)
        assert np.isneginf(found.scores["a"][~known]).all()


class Frame:
    """Of a library that is not polars."""


def test_a_frame_of_another_library_is_refused_with_the_way_to_bring_it():
    with pytest.raises(DataError, match=r"got a .*Frame, expected .* polars.from_pandas"):
        read_scores(Frame(), blend_until=CUT)


def test_a_lazy_frame_is_read_and_a_day_is_its_midnight():
    same(read_scores(SMALL.lazy(), blend_until=CUT.date()), read_scores(SMALL, blend_until=CUT))


@pytest.mark.parametrize("column", ["time", "target"])
def test_tables_whose_columns_are_of_different_types_are_refused(column):
    blend, test = SMALL.filter(pl.col("time") < CUT), SMALL.filter(pl.col("time") >= CUT)
    other = pl.col("time").dt.epoch("ms") if column == "time" else pl.col("target").cast(pl.Float64)
    with pytest.raises(DataError, match=f"column {column} is .* in one table and .* in the other"):
        read_scores(blend, test.with_columns(other))
