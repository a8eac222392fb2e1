"""What the endpoint was to reach beside its peers, and whether it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Goal", "goals"]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A ratio, and what it should be at least."""

    text: str
    reached: float | None  # None: not measured
    wanted: float

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.reached is None:
            return "not measured"
        return "met" if self.reached >= self.wanted else "MISSED"


def goals(found: Mapping[str, Any], candidates: int) -> list[Goal]:
    """All of them, from what `serve_peers.py` found.

    Args:
        candidates: of the cell that is compared with as many requests of one candidate.
    """
    named = (
        ("answers/s over those of FastAPI, at saturation", "ratio_fastapi", 2.0),
        ("p99 of LitServe over ours, at equal load", "ratio_litserve_p99", 1.0),
        ("served arithmetic over sgemm", "flops_share", 0.3),
        (
            f"{candidates} requests of one candidate over one of {candidates}",
            "ratio_candidates",
            3.0,
        ),
        ("members: a new user's cost over a returning one's", "ratio_repeated_members", 5.0),
        ("HTTP: answers/s to returning users over those to new ones", "ratio_repeated", 5.0),
    )
    return [Goal(text=text, reached=found.get(name), wanted=wanted) for text, name, wanted in named]
