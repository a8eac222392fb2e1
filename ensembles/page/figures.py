"""A report's numbers: read from the report, judged, and written for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from penchant.platform.intervals import Interval
from penchant.platform.metrics import LOWER_IS_BETTER

__all__ = [
    "MISSING",
    "chance",
    "count",
    "day",
    "direction",
    "duration",
    "evidence",
    "interval",
    "is_gain",
    "metric_title",
    "metric_words",
    "moment",
    "numbered_options",
    "percent",
    "probability",
    "quality",
    "shown",
    "signed",
    "span",
]

#: Stands where a report has no figure.
MISSING = "–"

_CAPITALS = {"ndcg", "hr", "mrr", "auc", "ece", "f1"}


def interval(metrics: Mapping[str, Any] | None, name: str) -> Interval | None:
    """The named metric of a report's `test`, `select` or difference; None where it has none.

    A metric without its interval, such as one of `select`, is a point: low and high are its mean.
    """
    found = (metrics or {}).get(name)
    if found is None or not _is_number(found.get("mean")):
        return None
    mean = float(found["mean"])
    edges = [found.get("low"), found.get("high")]
    low, high = (float(edge) if _is_number(edge) else mean for edge in edges)
    return Interval(mean, low, high, found.get("p"))


def is_gain(difference: Interval, metric: str) -> bool | None:
    """True for a proven gain, False for a proven loss, None where the interval holds zero.

    >>> is_gain(Interval(0.003, 0.001, 0.005), "ndcg@10"), is_gain(Interval(1, 1, 1), "log_loss")
    (True, False)
    """
    if difference.low <= 0 <= difference.high:
        return None
    return (difference.mean > 0) != (metric in LOWER_IS_BETTER)


def chance(ensemble: Mapping[str, Any], metric: str) -> float | None:
    """P-value of an ensemble's difference: by permutation, or as its resamples say."""
    found = interval(ensemble.get("difference_to_best_single"), metric)
    p: float | None = ensemble.get("permutation_p", found.p if found else None)
    return p


def shown(report: Mapping[str, Any]) -> str | None:
    """The ensemble to speak of: the recommended one, or the one nearest to beating the members.

    None where nothing was compared.
    """
    metric = report["metric"]
    compared = {
        ensemble["name"]: value.mean
        for ensemble in report.get("ensembles", [])
        if (value := interval(ensemble.get("difference_to_best_single"), metric)) is not None
    }
    if report.get("recommended") in compared:
        return str(report["recommended"])
    pick = min if metric in LOWER_IS_BETTER else max
    return pick(compared, key=lambda name: compared[name], default=None)


def numbered_options(report: Mapping[str, Any]) -> dict[str, int]:
    """Numbers from 1, cheapest first, of what is worth choosing from and of every ensemble."""
    named = {ensemble["name"] for ensemble in report.get("ensembles", [])}
    worth = [
        option
        for option in report.get("options", [])
        if option["pareto"]
        or option["name"] in named
        or option["name"] == report.get("best_single")
    ]
    worth.sort(key=lambda option: option["work_ms"])
    return {option["name"]: number for number, option in enumerate(worth, 1)}


def evidence(report: Mapping[str, Any]) -> str:
    """What the recommendation rests on, in a sentence or two; empty where nothing was compared.

    Speaks of the recommended ensemble or, where a single member is recommended, of the ensemble
    that came nearest to beating it.
    """
    metric, best, name = report["metric"], report.get("best_single"), shown(report)
    named: dict[str, dict[str, Any]] = {e["name"]: e for e in report.get("ensembles", [])}
    ensemble = named.get(name or "", {})
    difference = interval(ensemble.get("difference_to_best_single"), metric)
    if difference is None or best is None:
        return ""
    found = is_gain(difference, metric)
    amount = signed(difference.mean) if found is None else quality(abs(difference.mean))
    size = f"{amount} {metric_words(metric)}"
    tests = {member["id"]: member.get("test") for member in report.get("members", [])}
    base = interval(tests.get(best), metric)
    if base is not None and base.mean:
        share = difference.mean / base.mean
        size += f" ({percent(share, sign=True) if found is None else percent(abs(share))})"
    bounds = f"between {signed(difference.low)} and {signed(difference.high)}"
    if found is None:
        return (
            f"The ensemble {name} differs from {best}, the best single member, by {size}. The "
            f"95% interval, {bounds}, holds zero: the test block proves no difference."
        )
    return (
        f"The ensemble {name} is {'better' if found else 'worse'} than {best}, the best "
        f"single member, by {size}. The 95% interval of the difference, {bounds}, does not hold "
        f"zero{_chance(chance(ensemble, metric))}{_corrected(report, ensemble)}."
    )


def metric_words(name: str) -> str:
    """A metric inside a sentence.

    >>> metric_words("ndcg@10"), metric_words("log_loss"), metric_words("recall@10/repeat")
    ('NDCG@10', 'log loss', 'recall@10, repeat')
    >>> metric_words("auc_within")
    'AUC within'
    """
    full, _, part = name.partition("/")
    word, at, k = full.partition("@")
    shown = " ".join(w.upper() if w in _CAPITALS else w for w in word.split("_"))
    return f"{shown}{at}{k}" + (f", {part}" if part else "")


def metric_title(name: str) -> str:
    """A metric at the head of a column or a sentence.

    >>> metric_title("ndcg@10"), metric_title("log_loss")
    ('NDCG@10', 'Log loss')
    """
    words = metric_words(name)
    return words[0].upper() + words[1:]


def direction(metric: str) -> str:
    """A remark for metrics that are better when smaller; empty for the others."""
    return " (lower is better)" if metric in LOWER_IS_BETTER else ""


def quality(value: float) -> str:
    """A metric's value with four decimals."""
    return f"{value:.4f}"


def span(value: Interval) -> str:
    """The edges of an interval; empty for a point."""
    return "" if value.low == value.high else f"{quality(value.low)} to {quality(value.high)}"


def signed(value: float) -> str:
    """A difference with its sign, a true minus for the eye.

    >>> signed(0.00321), signed(-0.01), signed(0.0)
    ('+0.0032', '−0.0100', '0.0000')
    """
    rounded = round(value, 4)
    return f"{rounded:+.4f}".replace("-", "−") if rounded else "0.0000"


def percent(share: float, *, sign: bool = False) -> str:
    """A share as a percentage with one decimal.

    >>> percent(0.7652), percent(-0.0099, sign=True)
    ('76.5%', '−1.0%')
    """
    return f"{100 * share:{'+' if sign else ''}.1f}%".replace("-", "−")


def probability(p: float) -> str:
    """A p-value.

    >>> probability(0.0004), probability(0.041)
    ('< 0.001', '0.041')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(number: float) -> str:
    """A number of things, in groups of three digits; a fraction keeps one decimal.

    >>> count(1240369), count(12.25)
    ('1,240,369', '12.2')
    """
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.1f}"


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> duration(0.42), duration(65), duration(4321)
    ('0.4 s', '1 min 5 s', '1 h 12 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def moment(text: str) -> datetime:
    """An ISO moment in UTC; one without a zone is taken as UTC."""
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def day(text: str) -> str:
    """The day of an ISO moment.

    >>> day("2017-12-01T00:00:00+00:00")
    '1 Dec 2017'
    """
    found = moment(text)
    return f"{found.day} {found:%b %Y}"


def _chance(p: float | None, name: str = "p") -> str:
    if p is None:
        return ""
    text = probability(p)
    return f" ({name}\u00a0{text if text.startswith('<') else f'= {text}'})"


def _corrected(report: Mapping[str, Any], ensemble: Mapping[str, Any]) -> str:
    """The corrected p-value, where several ensembles were compared."""
    number, p = len(report["ensembles"]), ensemble.get("holm_p")
    if p is None or number < 2:
        return ""
    return f"; corrected for {number} comparisons{_chance(p)}"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
