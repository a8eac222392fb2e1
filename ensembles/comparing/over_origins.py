"""Earlier origins beside the latest one, and what all of them say together.

An origin is a comparison at one cut-off, with members, weights and blocks of its own. The gain of a
combination over all of them is the mean of its differences to the best single member of each
origin: on users of blend that fitted no weights, which decides, and on test, which is only told.
Its interval takes the origins as independent: half the width of an origin's 95%
bootstrap interval stands for 1.96 of its standard errors, the squares add up, and the mean of n has
an n-th of the root of their sum. Test blocks do not overlap, but the users are the same and each
block lies in the next origin's past: take the interval as somewhat too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from penchant.platform.intervals import Interval
from penchant.platform.metrics import sign_of

__all__ = ["METHOD", "gains_of", "pooled", "with_origins"]

#: Stands beside the figures, in `report.json` too.
METHOD = (
    "Mean of the origins' differences to their best single members on test. The interval takes "
    "origins as independent and their bootstrap intervals as 1.96 standard errors to each side."
)


def with_origins(report: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A report with what was found at earlier origins, and at all together.

    Args:
        report: of the latest origin, as `build_report` makes it.
        earlier: the reports of the others, the latest first.

    Returns:
        The report with `origins` and `over_origins`, and a verdict that says in how many origins
        the recommended combination was better than the best single member.
    """
    if not earlier:
        return dict(report)
    metric = report["metric"]
    origins = [_origin(one) for one in earlier]
    every = [_differences(report), *(one["differences"] for one in origins)]
    names = dict.fromkeys(name for differences in every for name in differences)
    gains = {name: _gain(every, name, metric) for name in names}
    unseen = [gains_of(one) for one in (report, *earlier)]
    for name, found in gains.items():
        own = [one[name] for one in unseen if name in one]
        if found is not None and own:
            found["unseen_users"] = pooled(own).to_json()
    whole = {
        **report,
        "origins": origins,
        "over_origins": {
            "origins": len(every),
            "method": METHOD,
            "gains": {name: gain for name, gain in gains.items() if gain is not None},
        },
    }
    shipped = gains.get(report["recommended"])
    if shipped is not None:
        whole["verdict"] = f"{report['verdict']} {_sentence(report['recommended'], shipped)}"
    return whole


def gains_of(report: Mapping[str, Any]) -> dict[str, Interval]:
    """Gains over the best single member within the budget, on users that fitted no weights."""
    found = {}
    for option in report.get("options", []):
        if (gain := _interval(option.get("gain"))) is not None:
            found[option["name"]] = gain
    return found


def pooled(differences: Sequence[Interval]) -> Interval:
    """The mean of one difference an origin, with its interval; see above."""
    mean = sum(one.mean for one in differences) / len(differences)
    half = math.hypot(*((one.high - one.low) / 2 for one in differences)) / len(differences)
    return Interval(mean, mean - half, mean + half)


def _origin(report: Mapping[str, Any]) -> dict[str, Any]:
    """What a comparison at an earlier origin found, for the report of the latest one."""
    tests = {member["id"]: member["test"][report["metric"]] for member in report["members"]}
    return {
        "test_from": report["blocks"]["test"],
        "test_until": report["blocks"]["end"],
        "best_single": report["best_single"],
        "recommended": report["recommended"],
        "test": tests[report["best_single"]],
        "differences": _differences(report),
    }


def _differences(report: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Of each combination to the best single member."""
    return {
        ensemble["name"]: ensemble["difference_to_best_single"][report["metric"]]
        for ensemble in report["ensembles"]
    }


def _gain(
    origins: Sequence[Mapping[str, Mapping[str, float | None]]], name: str, metric: str
) -> dict[str, Any] | None:
    """A combination over the origins that have it; None where none has a figure."""
    every = [_interval(differences.get(name)) for differences in origins]
    found = [one for one in every if one is not None]
    if not found:
        return None
    sign = sign_of(metric)
    return {
        "origins": len(found),
        "better": sum(sign * one.mean > 0 for one in found),
        "gain": pooled(found).to_json(),
    }


def _interval(found: Mapping[str, float | None] | None) -> Interval | None:
    """One of a report; None where a figure does not exist."""
    one = found or {}
    mean, low, high = one.get("mean"), one.get("low"), one.get("high")
    return None if mean is None or low is None or high is None else Interval(mean, low, high)


def _sentence(name: str, found: Mapping[str, Any]) -> str:
    gain = found["gain"]
    return (
        f"On test, {name} was better than the best single member in {found['better']} of "
        f"{found['origins']} origins; over them the difference is {gain['mean']:+.4f} "
        f"[{gain['low']:+.4f}, {gain['high']:+.4f}]."
    )
