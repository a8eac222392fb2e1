"""What could be shipped: every member, every combination, and what greedy selection met on its way.

Points of the way show what one member more brings and costs. They are no artefacts: a budget of so
many members (`max_members`) fits that one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penchant.ensembles.combinations.cascade import Cascade
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.comparing.choice import Cost, Option
from penchant.ensembles.comparing.fitting import Fitted
from penchant.ensembles.comparing.unseen import UnseenUsers
from penchant.ensembles.predictions import Blend, Predictions
from penchant.platform.metrics import sign_of

__all__ = ["make_options", "way_options"]


def make_options(
    costs: Mapping[str, Cost],
    fitted: Sequence[Fitted],
    values: Mapping[str, float],
    best: str,
) -> list[Option]:
    """Every member and every combination with its quality on `blend` and its cost.

    Args:
        values: member -> target metric on `blend`.
        best: the best single member, which `Fitted.gain` is over.
    """
    found = [Option.of(name, [name], costs, value) for name, value in values.items()]
    for one in fitted:
        made = one.combination
        cascade = made if isinstance(made, Cascade) else None
        found.append(
            Option.of(
                one.combiner.name,
                list(made.shares),
                costs,
                values[best] + one.gain.mean,
                gain=one.gain_within,
                stages=None if cascade is None else cascade.asked,
                work_ms=None if cascade is None else cascade.expected_cost_ms(),
            )
        )
    return found


def way_options(
    costs: Mapping[str, Cost],
    fitted: Sequence[Fitted],
    blend: Predictions[Blend],
    metric: str,
    unseen: UnseenUsers,
) -> list[Option]:
    """The best of greedy selection's way with 2, 3, .. members, on users that fitted no weights.

    One member is an option already, and so is what the way ends in. Where one member more made
    nothing better, the best so far is met again: it stands once, where it was met first.
    """
    greedy = next((o.combiner for o in fitted if isinstance(o.combiner, GreedyCombiner)), None)
    if greedy is None:
        return []
    sign, first = sign_of(metric), dict[int, tuple[Linear, float]]()
    for made, value in zip(greedy.path(blend, metric)[:-1], unseen.way(greedy), strict=False):
        first.setdefault(len(made.weights), (made, value))
    return [
        Option.of(f"greedy of {size}", list(made.weights), costs, sign * value)
        for size, (made, value) in first.items()
        if size > 1
    ]
