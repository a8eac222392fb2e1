"""How each combiner finds its members, and what it means that one is not among them."""

from __future__ import annotations

__all__ = ["EVEN", "HOW", "LEFT_OUT", "OFFERED", "WITHIN"]

#: Combiners that take the members that are best alone: no other member matters to them.
EVEN = frozenset({"mean", "median", "rank_mean", "reciprocal_rank"})

HOW = {
    "mean": "It takes the few members that are best on blend, and each counts the same.",
    "median": (
        "It takes the few members that are best on blend; of their scores the middle one stands, "
        "so that each counts the same."
    ),
    "rank_mean": (
        "It takes the few members that are best on blend and averages the places that they give; "
        "each counts the same."
    ),
    "reciprocal_rank": (
        "It takes the few members that are best on blend and adds up 1 / (60 + place); each counts "
        "the same."
    ),
    "greedy": (
        "It adds the member that helps the average on blend most, again and again, and keeps the "
        "best average met."
    ),
    "weights": (
        "It takes the weights, none below zero, under which what was chosen on blend is most "
        "likely, and drops shares that are next to nothing."
    ),
    "layers": (
        "Mean, greedy and weights are fitted on half of blend's users, and greedy selection mixes "
        "the three on the other half; the shares are multiplied out."
    ),
    "gate": (
        "Greedy selection for each segment of requests, mixed with that for all; a share is the "
        "mean over blend's requests."
    ),
    "stack": (
        "Boosted trees correct what greedy selection finds; a share is half the weight in the "
        "mean, half how often the trees look at the member."
    ),
    "cascade": (
        "Cheap members answer first, the others only where those are not sure. A share is the "
        "weight in each stage, by the requests that it answers on blend."
    ),
}

LEFT_OUT = {
    "greedy": "the best average met on blend is without it",
    "weights": "what was chosen on blend is most likely with it at next to no weight",
    "layers": "on blend, none of the layers that were kept gave it weight",
    "gate": "on blend, no segment of requests gave it weight",
    "stack": "no trees helped on blend, and greedy selection is without it",
    "cascade": (
        "no stage asks it: greedy selection on blend is without it, or keeps its gain without it"
    ),
}

#: Combiners that see, within a budget, only the members that greedy selection within it has found.
OFFERED = frozenset({"weights", "layers", "gate", "stack"})

#: What is otherwise said within a budget.
WITHIN = {
    "greedy": "the best average met on blend within the budget is without it",
    "cascade": "no stage asks it: greedy selection, or the best cascade that fits, is without it",
}
