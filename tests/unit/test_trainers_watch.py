"""What workers report is told to people, and what counts is written to the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from penchant.platform.progress import Progress
from penchant.platform.store import RunDirectory
from penchant.trainers.course import Kept
from penchant.trainers.ledger import Ledger
from penchant.trainers.note import Note, read_note
from penchant.trainers.watch import Watch


def test_what_training_will_take_is_told_before_it_begins_and_is_no_event(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDirectory(tmp_path)
    memory = "ZeRO-1 in fp32, 1.50 GiB a worker"
    with Progress() as progress:
        progress.expect("members", {"reader": 2})
        Watch(progress, run, {}).result(
            {"member": "reader", "state": "planned", "memory": memory, "time_total_s": 1.0}
        )
    assert f"reader: {memory}" in "".join(capsys.readouterr())
    assert Ledger(run.ledger).read() == []


def test_a_checkpoint_amid_an_epoch_is_told_and_is_no_event(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, kept = RunDirectory(tmp_path), Kept(epoch=0, step=120, steps=375, loss=4.6712)
    with Progress() as progress:
        progress.expect("members", {"reader": 1})
        Watch(progress, run, {}).result({"member": "reader", "state": "kept", **vars(kept)})
    told = "".join(capsys.readouterr())
    assert "reader: step 120 of 375, train 4.671; goes on from here if it is cut" in told
    assert Ledger(run.ledger).read() == []


def test_a_note_is_the_last_line_until_there_is_nothing_to_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("penchant.trainers.note.time.monotonic", lambda: now[0])
    directory = tmp_path / "members" / "asked"
    note = Note(directory)
    assert read_note(directory) is None
    for text, passed_s in (("too soon", 1.0), ("1 of 9", 2.0), ("2 of 9", 0.5), ("3 of 9", 2.0)):
        now[0] += passed_s
        note(text)
        if text == "2 of 9":
            assert read_note(directory) == "1 of 9"
    assert read_note(directory) == "3 of 9"
    assert not directory.exists()  # a note makes no member
    note.remove()
    assert read_note(directory) is None
