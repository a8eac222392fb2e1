"""Rolling origins: the same experiment at earlier cut-offs, so that no lucky month decides.

Every block moves back by the length of `test`, as often as asked (Tashman, "Out-of-sample tests of
forecasting accuracy", International Journal of Forecasting 2000: rolling-origin evaluation).
"""

from __future__ import annotations

from datetime import UTC

from penchant.platform.config import Experiment, Time
from penchant.platform.errors import ConfigError

__all__ = ["earlier_experiments"]


def earlier_experiments(experiment: Experiment) -> list[Experiment]:
    """The experiment at its earlier origins, the latest first; empty where `origins` is 1.

    Raises:
        ConfigError: the end of `test` is not given, or an origin lies before all events.
    """
    return [
        experiment.model_copy(
            update={"time": _earlier(experiment.time, steps), "refit": False},
        )
        for steps in range(1, experiment.time.origins)
    ]


def _earlier(time: Time, steps: int) -> Time:
    if time.dates is not None:
        if "end" not in time.dates:
            raise ConfigError(
                f"time.origins is {time.origins}, but time.dates has no `end`: expected one, since "
                "every block moves back by the length of test. Add the day after the last event."
            )
        dates = dict(time.dates)
        if any(start.tzinfo for start in dates.values()):  # a naive one is UTC, as everywhere
            dates = {
                name: start if start.tzinfo else start.replace(tzinfo=UTC)
                for name, start in dates.items()
            }
        step = steps * (dates["end"] - dates["test"])
        return Time(dates={name: start - step for name, start in dates.items()})
    shares = {"end": 1.0, **(time.quantiles or {})}
    moved = {
        name: round(share - steps * (shares["end"] - shares["test"]), 9)
        for name, share in shares.items()
    }
    if moved["select"] <= 0:
        raise ConfigError(
            f"time.origins is {time.origins}: origin {steps + 1} would have to select its members "
            f"at {moved['select']:g} of the events. Ask for fewer origins, or shorten test."
        )
    return Time.model_validate({"quantiles": moved})
