"""The run directory: never half-written where it looks whole, and never mixed."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penchant.platform.errors import ConfigError, DataError
from penchant.platform.store import RUN_VERSION, RunDirectory, write_json
from penchant.platform.timeline import Block

ROW = np.array([3, 8, 11])
SCORES = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


def test_predictions_are_read_as_they_were_written(run):
    scores = SCORES.copy()
    scores[1, 2] = -np.inf
    run.write_predictions(Block.TEST, "one", ROW, scores)
    read = run.read_predictions(Block.TEST, "one", ROW)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, scores)


@pytest.mark.parametrize("shape", [(3, 1), (0, 5)])
def test_predictions_of_one_candidate_or_of_no_request_are_kept(run, shape):
    scores = np.ones(shape, dtype=np.float32)
    run.write_predictions(Block.TEST, "one", ROW[: shape[0]], scores)
    np.testing.assert_array_equal(run.read_predictions(Block.TEST, "one", ROW[: shape[0]]), scores)


def test_a_view_with_strides_is_written_in_its_own_order(run):
    run.write_predictions(Block.TEST, "one", ROW, SCORES.T.copy().T[:, ::2])
    np.testing.assert_array_equal(run.read_predictions(Block.TEST, "one", ROW), SCORES[:, ::2])


def test_scores_stay_in_the_file_until_they_are_looked_at(run):
    """Reading takes no memory of its own, and nothing that was read can change the store."""
    row, scores = np.arange(50_000), np.ones((50_000, 200), dtype=np.float32)
    run.write_predictions(Block.TEST, "one", row, scores)
    before = psutil.Process().memory_info().rss
    read = run.read_predictions(Block.TEST, "one", row)
    assert psutil.Process().memory_info().rss - before < scores.nbytes / 4
    np.testing.assert_array_equal(read[-2:], scores[-2:])
    with pytest.raises(ValueError, match="read-only"):
        read[0, 0] = 5.0


def test_polars_reads_the_file_without_us(run):
    run.write_predictions(Block.TEST, "one", ROW, SCORES)
    frame = pl.read_ipc(run.predictions(Block.TEST, "one"))
    np.testing.assert_array_equal(frame["row"].to_numpy(), ROW)
    np.testing.assert_array_equal(frame["scores"].to_numpy(), SCORES)


def test_parquet_of_an_earlier_run_is_read_until_it_is_written_anew(run):
    earlier = run.predictions(Block.TEST, "one").with_suffix(".parquet")
    earlier.parent.mkdir(parents=True)
    rows = [{"row": int(at), "scores": own.tolist()} for at, own in zip(ROW, SCORES, strict=True)]
    lists = pa.list_(pa.float32(), SCORES.shape[1])
    schema = pa.schema([("row", pa.int64()), ("scores", lists)])
    pq.write_table(
        pa.Table.from_pylist(rows, schema), earlier, compression="zstd", row_group_size=2
    )
    np.testing.assert_array_equal(run.read_predictions(Block.TEST, "one", ROW), SCORES)
    run.write_predictions(Block.TEST, "one", ROW, SCORES + 1)
    np.testing.assert_array_equal(run.read_predictions(Block.TEST, "one", ROW), SCORES + 1)
    assert not earlier.exists()


def test_missing_and_torn_predictions_are_named(run):
    with pytest.raises(DataError, match="predictions of one on blend cannot be read from .*arrow"):
        run.read_predictions(Block.BLEND, "one", ROW)
    run.write_predictions(Block.BLEND, "one", ROW, SCORES)
    path = run.predictions(Block.BLEND, "one")
    whole = path.read_bytes()
    for size in (0, 7, len(whole) // 2, len(whole) - 40, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match="Run the experiment again: only what is missing"):
            run.read_predictions(Block.BLEND, "one", ROW)


@pytest.mark.parametrize("row", [ROW[::-1], ROW[:2], np.array([3, 8, 12])])
def test_predictions_of_other_requests_are_refused(run, row):
    run.write_predictions(Block.BLEND, "one", ROW, SCORES)
    with pytest.raises(DataError, match=r"answers other requests than requests/blend\.parquet"):
        run.read_predictions(Block.BLEND, "one", row)


def test_nothing_half_written_stands_under_a_final_name(run, monkeypatch):
    run.write_predictions(Block.BLEND, "one", ROW, SCORES)
    write_json(run.root / "a.json", {"a": 1})

    def die(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", die)
    with pytest.raises(KeyboardInterrupt):
        run.write_predictions(Block.BLEND, "one", ROW, SCORES + 1)
    with pytest.raises(KeyboardInterrupt):
        write_json(run.root / "a.json", {"a": 2})
    np.testing.assert_array_equal(run.read_predictions(Block.BLEND, "one", ROW), SCORES)
    assert json.loads((run.root / "a.json").read_text()) == {"a": 1}
    hidden = [path.name for path in run.root.rglob("*") if path.is_file() and path.name[0] == "."]
    assert len(hidden) == 2


def test_a_training_that_was_begun_is_of_its_experiment_though_no_member_is_finished(run):
    """It would go on with what it has learned under other blocks."""
    run.root.mkdir()
    run.begin({"experiment": "abc"})
    (run.root / "search" / "train-all").mkdir(parents=True)
    with pytest.raises(ConfigError, match="other data, blocks or requests"):
        run.begin({"experiment": "def"})
    run.begin({"experiment": "def"}, also=["abc"])  # what this one was called before
    assert run.manifest()["experiment"] == "def"


def test_one_run_at_a_time_works_in_a_directory(run):
    with run.alone():
        refused = pytest.raises(ConfigError, match="another `penchant run` is at work there")
        with refused, RunDirectory(run.root).alone():
            pass
    with run.alone():
        pass


def test_a_run_begins_in_a_new_or_empty_directory_and_goes_on_in_its_own(run):
    run.root.mkdir()
    run.begin({"experiment": "abc", "penchant": "1"})
    assert run.manifest() == {"version": RUN_VERSION, "experiment": "abc", "penchant": "1"}
    run.member("one").mkdir(parents=True)
    run.begin({"experiment": "abc", "penchant": "2"})
    assert run.manifest()["penchant"] == "1"


def test_members_of_another_experiment_are_never_mixed_in(run):
    run.begin({"experiment": "abc"})
    run.begin({"experiment": "def"})  # nothing was fitted yet: the experiment may still change
    assert run.manifest()["experiment"] == "def"
    run.member("one").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"members of another experiment \(digest def, .* abc\)"):
        run.begin({"experiment": "abc"})


def test_a_directory_of_something_else_is_left_alone(run):
    run.root.mkdir()
    (run.root / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="exists and is no run directory"):
        run.begin({"experiment": "abc"})
    assert [path.name for path in run.root.iterdir()] == ["thesis.tex"]
    with pytest.raises(ConfigError, match="is no run directory: expected a manifest"):
        run.manifest()


def test_a_run_of_another_version_is_refused(run):
    run.begin({"experiment": "abc"})
    write_json(run.root / "manifest.json", {"version": 99, "experiment": "abc"})
    for ask in (run.manifest, lambda: run.begin({"experiment": "abc"})):
        with pytest.raises(ConfigError, match=f"has version 99, expected {RUN_VERSION}"):
            ask()


def test_a_member_counts_as_done_once_its_facts_are_there(run):
    run.member("one").mkdir(parents=True)
    (run.member("one") / "member.json").write_text("{}")
    assert not run.has_member("one")
    write_json(run.member("one") / "metrics.json", {})
    assert run.has_member("one")


@pytest.mark.parametrize("content", [b'{"train_s": 1', b"", b"\xff\xfe", b"[1]", None])
def test_facts_that_are_torn_or_missing_are_refused_by_name(run, content):
    path = run.member("one") / "metrics.json"
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path} cannot be read: .* Remove {path.parent} and run"):
        run.member_facts("one")
