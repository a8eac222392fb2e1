"""Where members live: each in a deployment of its own, or the small ones together.

A hop to another process costs some milliseconds (about 2.2 ms a no-op call in Ray's own benchmark,
https://github.com/ray-project/ray/pull/64934). A member that scores in less than that is better
off in a process with others; one that takes longer scales, fails and is replaced alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from penchant.trainers.text.engine import EngineName

__all__ = ["HOP_MS", "Layout", "Place", "Placement", "measured_ms", "place_members"]

Placement = Literal["auto", "together", "apart"]

#: What a call to another process costs.
HOP_MS = 3.0


class Layout(BaseModel):
    """How the members of a version run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    placement: Placement = Field(default="auto", description="Which members share a process.")
    engine: EngineName = Field(default="auto", description="Runs members with a language model.")


class Place(BaseModel):
    """A deployment and the members in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    members: list[str]
    alone: bool  # nobody else could answer instead
    max_replicas: int = 2  # under load

    @property
    def replicas(self) -> int:
        """How many there are at least: two where the answer hangs on one."""
        return 2 if self.alone else 1

    @property
    def calls(self) -> int:
        """Calls that a front has under way at most: one for each replica that may run, and one."""
        return max(self.max_replicas, self.replicas) + 1


def measured_ms(directory: Path, members: Sequence[str]) -> dict[str, float]:
    """Milliseconds that each member of an artefact took for one request when it was fitted."""
    found = {}
    for name in members:
        path = directory / "members" / name / "metrics.json"
        facts = json.loads(path.read_text()) if path.is_file() else {}
        found[name] = float(facts.get("score_ms", HOP_MS))
    return found


def place_members(
    cost_ms: Mapping[str, float], placement: Placement, max_replicas: int = 2
) -> list[Place]:
    """Deployments for these members; the shared one comes last.

    Args:
        cost_ms: what a request costs each of them.
        placement: all together, each apart, or only those together that cost less than a hop.
        max_replicas: of each, under load.
    """
    small = {
        "together": list(cost_ms),
        "apart": [],
        "auto": [name for name, cost in cost_ms.items() if cost < HOP_MS],
    }[placement]
    groups = [[name] for name in cost_ms if name not in small] + ([small] if small else [])
    alone = len(groups) == 1
    return [
        Place(name=_name(at, group), members=group, alone=alone, max_replicas=max_replicas)
        for at, group in enumerate(groups)
    ]


def _name(at: int, members: Sequence[str]) -> str:
    """A name that Serve takes; members' ids may hold anything."""
    if len(members) > 1:
        return "members"
    return f"member-{at}-{re.sub(r'[^A-Za-z0-9_-]+', '-', members[0])[:40]}"
