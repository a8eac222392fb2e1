"""`penchant monitor`: is what is served still as it was?"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penchant.cli.options import Json

if TYPE_CHECKING:
    from penchant.platform.intervals import Interval
    from penchant.serve.watch.monitor import Watched, Window

__all__ = ["monitor"]

_FAILED = 4
_MISSING = "–"
_FIGURES = ("auc", "log_loss", "ece", "calibration_slope", "hr@10", "ndcg@10")


class FailOn(StrEnum):
    """The finding at which the command fails."""

    LOOK = "look"
    ACT = "act"


def monitor(
    service: Annotated[
        Path,
        typer.Argument(metavar="SERVICE", help="The directory of the service.", show_default=False),
    ],
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN_DIR",
            help="Compare scores with this run's test block.",
            show_default="the first week",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="DATE", help="Leave out what was answered before.", show_default=False
        ),
    ] = None,
    mature_days: Annotated[
        float, typer.Option(min=0.0, help="Quality is that of answers which are so old.")
    ] = 7.0,
    fail_on: Annotated[
        FailOn | None,
        typer.Option(help="Exit with 4 at such a finding, or a worse one.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell, week by week, how a service answers, and whether it is time to fit again.

    \b
    Examples:
      penchant monitor services/demo --run runs/demo
      penchant monitor services/demo --since 2026-03-01 --fail-on act
    """
    from penchant.serve.watch.drift import LEVELS
    from penchant.serve.watch.findings import findings, worst
    from penchant.serve.watch.monitor import watch

    watched = watch(service, run_dir=run, since_ms=_milliseconds(since), mature_days=mature_days)
    if run is not None and not watched.references:
        print(f"no ensemble of {run} has answered: scores are compared by week", file=sys.stderr)
    found = findings(watched)
    level = worst(found)
    if as_json:
        content = {
            "level": level,
            "findings": [{"level": one.level, "text": one.text} for one in found],
            "windows": [window.to_json() for window in watched.windows],
        }
        print(json.dumps(content))
    else:
        _show(watched)
        for finding in found:
            print(finding.text)
    if fail_on is not None and LEVELS.index(level) >= LEVELS.index(fail_on.value):
        raise typer.Exit(_FAILED)


def _milliseconds(since: str | None) -> int | None:
    from penchant.platform.errors import ConfigError
    from penchant.platform.timeline import as_utc

    if since is None:
        return None
    try:
        return as_utc(datetime.fromisoformat(since))
    except (ValueError, OverflowError):
        raise ConfigError(
            f"--since is {since!r}, expected a date such as 2026-03-01, or a moment in ISO 8601."
        ) from None


def _show(watched: Watched) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=200)
    figures = [name for name in _FIGURES if any(name in _quality(w) for w in watched.windows)]
    table = Table("week", "version", "role", title="what was answered", title_justify="left")
    heads = ("answers", "degraded", "p50 ms", "p99 ms", "PSI", "disagreement", "coverage")
    for head in (*heads, *figures):
        table.add_column(head, justify="right")
    for window in watched.windows:
        judged = window.judged
        table.add_row(
            window.week.isoformat(),
            window.version,
            window.role,
            f"{window.answers:,}",
            f"{window.degraded:.1%}",
            f"{window.p50_ms:.0f}",
            f"{window.p99_ms:.0f}",
            _MISSING if window.psi is None else f"{window.psi.value:.3f}",
            _MISSING if window.disagreement is None else f"{window.disagreement:.3f}",
            _MISSING if judged is None else f"{judged.coverage:.1%}",
            *(_interval(_quality(window).get(name)) for name in figures),
        )
    console.print(table)


def _quality(window: Window) -> dict[str, Interval]:
    return {} if window.judged is None else window.judged.quality


def _interval(value: Interval | None) -> str:
    return _MISSING if value is None else f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"
