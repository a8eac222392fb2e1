"""What AutoGluon's own ensemble selection makes of the cases in `autogluon_selection.json`.

AutoGluon is no dependency of ours; the file is made anew in an environment of its own:

    python3 -m venv autogluon-env
    autogluon-env/bin/pip install autogluon.core==1.6.3
    autogluon-env/bin/python tests/unit/autogluon_selection.py

Qualities are scikit-learn's. Of equal members AutoGluon draws one; its `random_state` here takes
the first, as ours does, so that cases with ties are held to the letter too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

PLACE = Path(__file__).with_suffix(".json")
ROUNDS = 25
ITEMS = 8


def case(metric: str, seed: int, size: int, twins: bool) -> tuple[dict[str, Any], Any]:
    """Scores of four to six members by name, (R, C) each, and what was chosen: items or labels.

    Args:
        size: requests; few of them make many ties.
        twins: every member stands beside a copy of itself.
    """
    random = np.random.default_rng(seed)
    binary = "@" not in metric
    truth = (random.random(size) < 0.4) if binary else random.integers(0, ITEMS, size)
    scores = {}
    for at, strength in enumerate(random.random(4 + seed % 3) * 1.5):
        part = random.normal(size=(size, 1 if binary else ITEMS))
        if binary:
            part[:, 0] += strength * (2 * truth - 1)
        else:
            part[np.arange(size), truth] += strength
        scores[f"m{at}"] = part.astype(np.float32)
        if twins:
            scores[f"m{at}-twin"] = scores[f"m{at}"].copy()
    return scores, truth.astype(np.int32)


class First:
    """Stands for a random state: draws the first."""

    def choice(self, among: Sequence[int]) -> int:
        return among[0]


def scorer(metric: str) -> Any:
    from autogluon.core.metrics import make_scorer
    from sklearn import metrics

    kind, _, length = metric.partition("@")
    labels = np.arange(ITEMS)
    known = {
        "ndcg": lambda y, s: metrics.ndcg_score(np.eye(ITEMS)[y], s, k=int(length)),
        "hr": lambda y, s: metrics.top_k_accuracy_score(y, s, k=int(length), labels=labels),
        "mrr": lambda y, s: metrics.label_ranking_average_precision_score(np.eye(ITEMS)[y], s),
        "auc": metrics.roc_auc_score,
        "log_loss": lambda y, s: metrics.log_loss(y, 1 / (1 + np.exp(-s))),
        "brier": lambda y, s: metrics.brier_score_loss(y, 1 / (1 + np.exp(-s))),
    }
    loss = kind in ("log_loss", "brier")
    return make_scorer(
        metric, known[kind], optimum=0 if loss else 1, greater_is_better=not loss, needs_proba=True
    )


def selected(metric: str, seed: int, size: int, twins: bool) -> dict[str, float]:
    """AutoGluon's weights by name."""
    from autogluon.core.models.greedy_ensemble.ensemble_selection import EnsembleSelection

    scores, truth = case(metric, seed, size, twins)
    selection = EnsembleSelection(ROUNDS, "binary", scorer(metric), random_state=First())
    parts = [part.astype(np.float64) for part in scores.values()]
    selection.fit([part[:, 0] if part.shape[1] == 1 else part for part in parts], truth)
    return {n: w for n, w in zip(scores, selection.weights_.tolist(), strict=True) if w}


def main() -> None:
    import autogluon.core

    settings = [
        {"metric": metric, "seed": seed, "size": size, "twins": twins}
        for metric in ("ndcg@5", "hr@2", "mrr@8", "auc", "log_loss", "brier")
        for seed, (size, twins) in enumerate([(60, False), (60, True), (200, False), (12, True)])
    ]
    made = {
        "autogluon.core": autogluon.core.__version__,
        "numpy": np.__version__,
        "rounds": ROUNDS,
        "cases": [{**one, "weights": selected(**one)} for one in settings],
    }
    lines = ",\n".join(f"  {json.dumps(one)}" for one in made.pop("cases"))
    PLACE.write_text(f'{json.dumps(made)[:-1]}, "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
