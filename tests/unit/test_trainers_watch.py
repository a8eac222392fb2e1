"""What workers report is told to people, and what counts is written to the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from penchant.platform.progress import Progress
from penchant.trainers.ledger import Ledger
from penchant.trainers.watch import Watch


def test_what_training_will_take_is_told_before_it_begins_and_is_no_event(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    memory = "ZeRO-1 in fp32, 1.50 GiB a worker"
    with Progress() as progress:
        progress.expect("members", {"reader": 2})
        Watch(progress, ledger, {}).result(
            {"member": "reader", "state": "planned", "memory": memory, "time_total_s": 1.0}
        )
    assert f"reader: {memory}" in "".join(capsys.readouterr())
    assert ledger.read() == []
