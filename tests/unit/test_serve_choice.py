"""What was not asked for stays as it was: the layout of a version, the version of a service."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from penchant.platform.errors import ConfigError, DataError
from penchant.serve.answering.card import version_of
from penchant.serve.answering.places import Layout, Place
from penchant.serve.versions.choice import artefact_to_start, layout_for
from penchant.serve.versions.service import Live, Service, Traffic

AUTO, QUICK, APART = Layout(), Layout(engine="onnx-int8"), Layout(placement="apart")


def live(version: str, layout: Layout = AUTO, directory: str = "somewhere") -> Live:
    places = [Place(name="members", members=["own"], alone=True)]
    return Live(
        version=version, directory=directory, source=directory, layout=layout, places=places
    )


def test_a_canary_lends_its_layout_to_be_promoted() -> None:
    traffic = Traffic(primary=live("a"), canary=live("b", QUICK), canary_share=0.05)
    assert layout_for(traffic, "b", None, None) == QUICK
    assert layout_for(traffic, "b", None, "torch") == Layout(engine="torch")
    assert layout_for(traffic, "b", "apart", None) == Layout(placement="apart", engine="onnx-int8")
    assert layout_for(traffic, "b", "auto", "auto") == AUTO


def test_a_canary_of_the_version_that_is_primary_lends_first() -> None:
    traffic = Traffic(primary=live("a", APART), canary=live("a", QUICK), previous=live("a"))
    assert layout_for(traffic, "a", None, None) == QUICK
    shadowed = Traffic(primary=live("a", APART), shadow=live("a", QUICK))
    assert layout_for(shadowed, "a", None, None) == QUICK
    assert layout_for(Traffic(primary=live("a", APART)), "a", None, None) == APART


def test_a_version_that_is_new_is_laid_out_by_measure() -> None:
    assert layout_for(Traffic(primary=live("a", APART)), "b", None, None) == AUTO
    assert layout_for(None, "b", None, "onnx") == Layout(engine="onnx")


def artefact(directory: Path, text: str) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "ensemble.json").write_text(text)
    return directory


def last_of(directory: Path) -> Traffic:
    return Traffic(primary=live(version_of(directory), directory=str(directory)))


def test_a_start_goes_on_with_what_was_live_last(tmp_path: Path) -> None:
    service, october = Service(tmp_path / "service"), artefact(tmp_path / "october", "1")
    last = last_of(october)
    assert artefact_to_start(service, last, None) == october
    assert artefact_to_start(service, last, october) == october
    copy = artefact(tmp_path / "copy", "1")  # the same version, wherever it lies
    assert artefact_to_start(service, last, copy) == copy


def test_another_version_than_was_live_last_is_refused_with_both(tmp_path: Path) -> None:
    service, october = Service(tmp_path / "service"), artefact(tmp_path / "october", "1")
    november = artefact(tmp_path / "november", "2")
    with pytest.raises(ConfigError, match="--replace") as caught:
        artefact_to_start(service, last_of(november), october)
    for told in (version_of(october), version_of(november), str(october), str(november)):
        assert told in str(caught.value)
    assert artefact_to_start(service, None, october) == october


def test_a_directory_that_was_made_anew_is_served_where_it_is_named(tmp_path: Path) -> None:
    service, run = Service(tmp_path / "service"), artefact(tmp_path / "run", "1")
    last = last_of(run)
    artefact(run, "2")
    assert artefact_to_start(service, last, run) == run
    with pytest.raises(DataError, match=r"by now, expected .*Name a RUN_DIR"):
        artefact_to_start(service, last, None)
    (run / "ensemble.json").unlink()
    with pytest.raises(DataError, match="holds version none by now"):
        artefact_to_start(service, last, None)


def test_without_a_run_something_must_have_been_live(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a RUN_DIR"):
        artefact_to_start(Service(tmp_path), None, None)


def test_a_canary_that_does_not_come_back_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = artefact(tmp_path / "run", "1")
    last = last_of(run).model_copy(update={"canary": live("b"), "canary_share": 0.1})
    with caplog.at_level(logging.WARNING):
        artefact_to_start(Service(tmp_path), last, None)
    assert "the canary of" in caplog.text
    assert "version b, does not come back by itself" in caplog.text
