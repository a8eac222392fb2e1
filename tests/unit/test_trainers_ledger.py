"""The ledger survives kills: torn lines are passed over, and never tear the next one."""

from __future__ import annotations

import pytest

from penchant.trainers.ledger import Ledger


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path / "search" / "ledger.jsonl")


def members(ledger: Ledger) -> list[str]:
    return [event["member"] for event in ledger.read()]


def test_events_are_read_in_order_with_their_time(ledger):
    assert ledger.read() == []
    for name in ("one", "two\nlines", "dreiß\u2028ig"):
        ledger.append({"member": name, "state": "done"})
    assert members(ledger) == ["one", "two\nlines", "dreiß\u2028ig"]
    assert all(event["at"].endswith("+00:00") for event in ledger.read())
    assert len(ledger.path.read_bytes().splitlines()) == 3


def test_a_torn_last_line_is_passed_over(ledger):
    ledger.append({"member": "one"})
    ledger.append({"member": "two"})
    whole = ledger.path.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    for lost in range(2, last):
        ledger.path.write_bytes(whole[:-lost])
        assert members(ledger) == ["one"]
    ledger.path.write_bytes(whole[:-1])  # only the end of the line is missing
    assert members(ledger) == ["one", "two"]


@pytest.mark.parametrize("lost", [1, 2, 30])
def test_what_is_appended_after_a_torn_line_is_read(ledger, lost):
    ledger.append({"member": "one"})
    ledger.append({"member": "two"})
    ledger.path.write_bytes(ledger.path.read_bytes()[:-lost])
    ledger.append({"member": "three"})
    kept = ["two"] if lost == 1 else []  # only the end of its line was missing
    assert members(ledger) == ["one", *kept, "three"]


def test_two_ledgers_on_one_file_add_to_each_other(ledger):
    other = Ledger(ledger.path)
    ledger.append({"member": "one"})
    other.append({"member": "two"})
    ledger.append({"member": "three"})
    assert members(other) == ["one", "two", "three"]
