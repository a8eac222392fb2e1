"""How training curves look: one line a member over the steps. Specifications from plain rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt

from penchant.ensembles.page.plots import over, spec

__all__ = ["PALETTE", "lines"]

#: Colours of lines that cross: apart in hue and in lightness, the first for the best member.
PALETTE = (
    *("#0a6c74", "#c2571a", "#4a5fb0", "#8a6d00", "#a03070", "#3f9a3f"),
    *("#7d8896", "#52b5bd", "#e0a070", "#9aa6e0", "#c9b24a", "#d58ab5"),
)


def lines(
    rows: list[dict[str, Any]],
    colors: Mapping[str, str],
    *,
    log: bool,
    form: str,
    dots: bool,
) -> dict[str, Any]:
    """Lines of `value` by `step`, one each `member`.

    Args:
        colors: of each member.
        log: whether members may differ by factors, so that the axis is logarithmic.
        form: how a value is written, in d3's language.
        dots: whether values are few, and each is marked.
    """
    scale = alt.Scale(type="log", nice=True) if log else alt.Scale(zero=False, nice=True)
    base = over(rows).encode(
        x=alt.X("step:Q", title="step", axis=alt.Axis(grid=False, tickCount=4, format="~s")),
        y=alt.Y(
            "value:Q",
            title=None,
            scale=scale,
            axis=alt.Axis(tickCount=4, format=form, labelOverlap=True, grid=not log),
        ),
        color=alt.Color(
            "member:N",
            scale=alt.Scale(domain=list(colors), range=list(colors.values())),
            legend=None,
        ),
        tooltip=["member:N", "step:Q", "epoch:Q", alt.Tooltip("value:Q", format=".4~g")],
    )
    mark = alt.OverlayMarkDef(size=24) if dots else False
    return spec(base.mark_line(strokeWidth=1.5, point=mark), height=150)
