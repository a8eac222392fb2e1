"""Off a terminal, progress is plain lines on standard error that say what is left."""

from __future__ import annotations

import pytest

from penchant.platform.progress import Progress


def test_lines_tell_what_is_done_and_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        progress.expect("members", {"a": 4, "b": 2})
        progress.note("a", "reading")
        progress.step("a", 1, "epoch 1/4")
        progress.finish("a", "stopped early")
        progress.finish("b", "fitted")
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert "members: 2 to do" in lines[0]
    assert lines[1].endswith("a: reading")  # how long that takes, nobody knows
    assert "a: epoch 1/4" in lines[2]
    assert "left" in lines[2]
    assert "1 of 2 done" in lines[3]
    assert "2 of 2 done, nothing left" in lines[4]


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(quiet=True) as progress:
        progress.say("hello")
        progress.expect("members", {"a": 1})
        progress.finish("a", "fitted")
    assert capsys.readouterr() == ("", "")
