"""Training curves in the report: what the steps files of the best trained members hold.

They stand in the page alone. report.json holds the epochs, and the files themselves every step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penchant.ensembles.page import curve_plots
from penchant.ensembles.page.charts import Chart
from penchant.ensembles.page.figures import metric_title
from penchant.platform.store import RunDirectory
from penchant.platform.tracking import STEPS_FILE, read_steps

__all__ = ["Curves", "Steps", "read_curves", "training_curves"]

#: Lines of each member's steps file.
Steps = Mapping[str, Sequence[Mapping[str, float]]]

_MEMBERS = len(curve_plots.PALETTE)
_POINTS = 100  # of a line: each is the mean of about a hundredth of the steps


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Small charts that share their members' colours."""

    colors: Mapping[str, str]
    charts: Sequence[Chart]


@dataclass(frozen=True, kw_only=True)
class _Measure:
    """A value of the steps files, and how it is drawn."""

    name: str
    caption: str
    form: str = "~g"
    log: bool = False
    at_epochs: bool = False  # told once an epoch, so that no value is left out


_MEASURES = (
    _Measure(name="loss", caption="Loss on train"),
    _Measure(name="learning_rate", caption="Learning rate", log=True, form="~e"),
    _Measure(name="gradient_norm", caption="Gradient norm, before clipping", log=True),
    _Measure(name="tokens_per_s", caption="Tokens a second", log=True, form="~s"),
    _Measure(name="peak_share", caption="Share of the measured matrix-product peak", form="~%"),
    _Measure(name="memory_mb", caption="Memory of a worker, MB", form="~s"),
    _Measure(name="gpu_memory_mb", caption="GPU memory of a worker, MB", form="~s"),
)


def read_curves(run: RunDirectory, report: Mapping[str, Any]) -> Steps:
    """Steps of the report's best members that have any, best first, at most twelve."""
    found: dict[str, Sequence[Mapping[str, float]]] = {}
    for member in report.get("members", []):  # as `select` ranks them
        steps = read_steps(run.member(member["id"]) / STEPS_FILE)
        if steps and len(found) < _MEMBERS:
            found[member["id"]] = steps
    return found


def training_curves(steps: Steps) -> Curves | None:
    """A small chart each measure, with a line each member; None where nothing was tracked."""
    judged = dict.fromkeys(
        name
        for lines in steps.values()
        for line in lines
        for name in line
        if name.startswith("select_") and name != "select_loss"
    )
    loss, *others = _MEASURES
    measures = [
        loss,
        *(
            _Measure(
                name=name,
                caption=f"{metric_title(name.removeprefix('select_'))} on select",
                at_epochs=True,
            )
            for name in judged
        ),
        *others,
    ]
    colors = dict(zip(steps, curve_plots.PALETTE, strict=False))
    charts = [chart for measure in measures if (chart := _chart(measure, steps, colors))]
    return Curves(colors=colors, charts=charts) if charts else None


def _chart(measure: _Measure, steps: Steps, colors: Mapping[str, str]) -> Chart | None:
    lines = {member: _line(measure, steps[member]) for member in colors}
    rows = [{"member": member, **point} for member, line in lines.items() for point in line]
    if not rows:
        return None
    words = "; ".join(
        f"{member} from {line[0]['value']:.4g} to {line[-1]['value']:.4g}"
        for member, line in lines.items()
        if line
    )
    return Chart(
        key=f"chart-steps-{measure.name.replace('@', '-')}",
        caption=measure.caption,
        label=f"Lines of {measure.caption[0].lower()}{measure.caption[1:]} by step: {words}.",
        spec=curve_plots.lines(
            rows, colors, log=measure.log, form=measure.form, dots=measure.at_epochs
        ),
    )


def _line(measure: _Measure, steps: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """Points of a line: means of so many neighbours that about a hundred points are left."""
    told = [line for line in steps if measure.name in line]
    told = [line for line in told if line[measure.name] > 0 or not measure.log]
    size = 1 if measure.at_epochs else -(-len(told) // _POINTS)
    parts = [told[begin : begin + size] for begin in range(0, len(told), size or 1)]
    return [
        {
            "step": part[-1]["step"],
            "epoch": part[-1].get("epoch", 0),
            "value": float(f"{sum(line[measure.name] for line in part) / len(part):.6g}"),
        }
        for part in parts
    ]
