"""What a comparison of foreign scores found, as a table, a sentence, JSON and Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from penchant.ensembles.comparing.comparison import Candidate, Comparison
from penchant.ensembles.comparing.findings import ensemble_json, findings
from penchant.ensembles.comparing.foreign_terms import Terms
from penchant.platform.intervals import Interval

__all__ = ["ForeignComparison"]


@dataclass(frozen=True, kw_only=True)
class ForeignComparison:
    """What was found, and what was left out or is odd."""

    comparison: Comparison
    notes: list[str]
    terms: Terms  # that were asked for, for a closer look

    def table(self) -> pl.DataFrame:
        """A row a member and a combination: the target metric on `test`, and what it gains.

        Where requests were left out because their target is no candidate, `ceiling` is the share
        of those that were not: the most that the metric could be over all requests. Over all of
        them it is that share of what the row says.
        """
        found = self.comparison
        rows = [_row(found.metric, name, test, None) for name, test in found.members.items()]
        rows += [_row(found.metric, made.combiner, made.test, made) for made in found.candidates]
        if self.ceiling < 1:
            rows = [row | {"ceiling": self.ceiling} for row in rows]
        return pl.DataFrame(rows, infer_schema_length=None)

    @property
    def ceiling(self) -> float:
        """Share of the requests of `test` with a target among their candidates; 1 of `binary`."""
        return min((c.answerable for c in self.comparison.ceilings if c.block == "test"), default=1)

    def verdict(self) -> str:
        """The recommendation in a sentence."""
        found, best = self.comparison, self.comparison.recommended
        use = f"Within {found.budget}, use" if found.budget.limited else "Use"
        if best is None:
            return (
                f"{use} {found.alone} alone: on users of blend that fitted no weights, no "
                "combination was surely better."
            )
        gain = best.gain_within
        return (
            f"{use} {best.combiner} of {len(best.combination.shares)} models: on users of blend "
            f"that fitted no weights it gained {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
            f" {found.metric} over {found.alone}."
        )

    def to_json(self) -> dict[str, Any]:
        """All that was found, as plain values; a figure that does not exist is None."""
        found = self.comparison
        return {
            **findings(found),
            "metric": found.metric,
            "verdict": self.verdict(),
            "notes": self.notes,
            "best_single": found.best_single,
            "recommended": found.choice,
            "models": {name: _each(test) for name, test in found.members.items()},
            "combinations": [
                {
                    "name": made.combiner,
                    "weights": dict(made.combination.shares),
                    "gain_on_unseen_users": made.blend_gain.to_json(),
                    "test": _each(made.test),
                    "difference": _each(made.difference),
                    "holm_p": made.holm_p,
                }
                for made in found.candidates
            ],
        }

    def to_html(self, directory: Path, name: str = "comparison") -> Path:
        """Write the page of a run's report, with its JSON and Markdown; returns the page's path.

        Args:
            directory: where to write; it is made if needed.
            name: the page's title.
        """
        from penchant.ensembles.page.report import write_report  # charts take a second to import

        return write_report(self._report(name), directory)

    def _report(self, name: str) -> dict[str, Any]:
        """As `docs/report.schema.json` describes it; nothing is known of recipes and data."""
        found, costs = self.comparison, self.terms.cost_ms or {}
        return {
            **findings(found),
            "schema": 1,
            "name": name,
            "task": "next_item" if "@" in found.metric else "binary",
            "metric": found.metric,
            "members": [
                {
                    "id": model,
                    "kind": "foreign",
                    "window": {},
                    "score_ms": costs.get(model),
                    "blend": {found.metric: {"mean": found.blend[model]}},
                    "test": _each(test),
                }
                for model, test in found.members.items()
            ],
            "best_single": found.best_single,
            "ensembles": [ensemble_json(found.metric, made) for made in found.candidates],
            "recommended": found.choice,
            "verdict": self.verdict(),
            "notes": self.notes,
        }

    def to_markdown(self) -> str:
        """The verdict and the tables, for a note or a pull request."""
        found = self.comparison
        parts = [self.verdict(), _markdown(self.table())]
        if found.segments:
            parts += ["### Segments of test", _markdown(_segments(found))]
        for one in found.ablation:
            title = f"### {one.combination} without each of its models ({one.how})"
            rows = [
                {"model": part.member, "weight": part.share, **_edges("change", part.change)}
                for part in one.members
            ]
            parts += [title, _markdown(pl.DataFrame(rows))]
        if self.ceiling < 1:
            parts.append(
                f"{1 - self.ceiling:.1%} of the requests of test have no target among their "
                f"candidates and are left out: over all of them no order of these candidates has "
                f"a {found.metric} above {self.ceiling:.4f}, and the figures above are to be "
                f"multiplied by it."
            )
        if self.notes:
            parts.append("\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join(parts) + "\n"


def _segments(found: Comparison) -> pl.DataFrame:
    """A row a segment and a combination: its difference to the best single model."""
    return pl.DataFrame(
        [
            {
                "by": part.by,
                "segment": part.name,
                "users": part.users,
                "combination": name,
                found.metric: part.combinations[name].mean,
                **_edges("gain", gain),
            }
            for part in found.segments
            for name, gain in part.differences.items()
        ]
    )


def _edges(name: str, value: Interval) -> dict[str, float]:
    return {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}


def _each(values: Mapping[str, Interval]) -> dict[str, dict[str, float | None]]:
    return {name: value.to_json() for name, value in values.items()}


def _markdown(table: pl.DataFrame) -> str:
    """A pipe table with four decimals."""
    lines = [table.columns, ["---"] * table.width]
    lines += [[_cell(value) for value in row] for row in table.rows()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value).replace("|", "\\|")


def _row(
    metric: str, name: str, table: Mapping[str, Interval], made: Candidate | None
) -> dict[str, object]:
    value = table[metric]
    row: dict[str, object] = {
        "name": name,
        "models": 1 if made is None else len(made.combination.shares),
        metric: value.mean,
        "low": value.low,
        "high": value.high,
    }
    if made is not None:
        gain = made.difference[metric]
        row |= {"gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high, "p": made.holm_p}
    return row
