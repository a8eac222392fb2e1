"""The search's ledger: an append-only JSONL file that survives the death of its head.

A line says what happened to which member. A torn last line, left by a kill, is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["Ledger"]


@dataclass(frozen=True)
class Ledger:
    """Events of a search, in order."""

    path: Path

    def append(self, event: Mapping[str, Any]) -> None:
        """Add a line and make sure that it reaches the disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **event})
        with self.path.open("a+b") as file:
            file.seek(0, 2)
            if file.tell():
                file.seek(-1, 2)
                torn = file.read(1) != b"\n"
                line = f"\n{line}" if torn else line
            file.write(f"{line}\n".encode())
            file.flush()

    def read(self) -> list[dict[str, Any]]:
        """All whole lines."""
        if not self.path.exists():
            return []
        events = []
        for line in self.path.read_text().splitlines():
            try:
                events.append(json.loads(line))
            except json.JSONDecodeError:
                continue  # torn by a kill; whatever it said will be done again
        return events
