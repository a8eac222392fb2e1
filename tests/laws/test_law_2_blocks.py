"""Law 2: an ensemble cannot be fitted on the block that picked its members, nor on the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from penchant.ensembles.combiners.average import MeanCombiner
from penchant.ensembles.combiners.greedy import GreedyCombiner
from penchant.ensembles.predictions import Predictions
from penchant.platform.requests import all_requests
from penchant.platform.timeline import Block

ROOT = Path(__file__).resolve().parents[2]
SNIPPET = """
from penchant.ensembles.combiners.{module} import {combiner}
from penchant.ensembles.predictions import Predictions, {block}


def fitted(predictions: Predictions[{block}]) -> None:
    {combiner}().fit(predictions, "ndcg@10")
"""


@pytest.mark.parametrize("block", [Block.TRAIN, Block.SELECT, Block.TEST])
@pytest.mark.parametrize("combiner", [MeanCombiner(), GreedyCombiner()], ids=lambda c: c.name)
def test_a_combiner_refuses_predictions_of_any_block_but_blend(combiner, block, world):
    here = world("baskets")
    requests = all_requests(here.log, here.spec, here.until_ms, here.until_ms + 10**9)
    scores = {"one": np.zeros((len(requests), 30), dtype=np.float32)}
    assert combiner.fit(Predictions(block=Block.BLEND, requests=requests, scores=scores), "ndcg@10")
    predictions = Predictions(block=block, requests=requests, scores=scores)
    with pytest.raises(TypeError, match=f"predictions of `blend`, got those of `{block}`"):
        combiner.fit(predictions, "ndcg@10")


@pytest.mark.slow
def test_the_type_checker_refuses_them_too(tmp_path):
    """One run over one file a case, with the repository's settings."""
    (tmp_path / "penchant").mkdir()
    for floor in ("platform", "trainers", "ensembles"):
        (tmp_path / "penchant" / floor).symlink_to(ROOT / floor)
    cases = {}
    for module, combiner in (("average", "MeanCombiner"), ("greedy", "GreedyCombiner")):
        for block in ("Blend", "Select", "Test"):
            name = f"{module}_{block.lower()}.py"
            text = SNIPPET.format(module=module, combiner=combiner, block=block)
            (tmp_path / name).write_text(text)
            cases[name] = block
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", f"--config-file={ROOT / 'pyproject.toml'}", *cases],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in checked.stdout.splitlines() if ": error: " in line]
    refused = {name for name, block in cases.items() if block != "Blend"}
    assert {line.partition(":")[0] for line in errors} == refused, checked.stdout
    assert all('has incompatible type "Predictions[Literal[Block.' in line for line in errors)
