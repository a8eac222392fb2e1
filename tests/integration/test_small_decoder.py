"""SmolLM2 with adapters: trains, is exported, loads elsewhere and here, scores the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModel, AutoTokenizer

from penchant.platform.language_models import load_model
from penchant.platform.text_recipes import Lora, TextRecipe
from penchant.trainers.fit import load_member

from .test_text_training import Trainings

pytestmark = [pytest.mark.slow]

#: Two of its thirty layers: the same shapes, the same files, a fifteenth of the time.
LAYERS = 2


@pytest.fixture(scope="module")
def trained(world: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    here = world("binary")
    recipe = TextRecipe(
        kind="text",
        base="smollm2",
        layers=LAYERS,
        lora=Lora(rank=4),
        epochs=1,
        fit_requests=32,
        batch_requests=8,
        learning_rate=1e-3,
    )
    asked = here.asked().take(np.arange(24))
    trainings = Trainings(tmp_path_factory.mktemp("decoder") / "it", recipe, here.past, asked)
    trainings.run("smollm2", workers=1, stage=0, save=True)
    return trainings.root / "smollm2", (here.log, asked)


def test_it_loads_here_and_scores_the_same(trained: tuple[Path, Any]) -> None:
    directory, (log, asked) = trained
    scores = load_file(directory / "scores.safetensors")["scores"]
    again = load_member(directory / "member").score(log, asked)
    np.testing.assert_allclose(again, scores, rtol=1e-5, atol=1e-5)
    assert np.std(again) > 0


def test_plain_transformers_load_it_with_the_adapters_merged(trained: tuple[Path, Any]) -> None:
    """The exported weights are the base's, but for the low-rank part that was learned."""
    directory, _ = trained
    exported = AutoModel.from_pretrained(directory / "member", local_files_only=True)
    assert exported.config.model_type == "llama"
    assert exported.config.num_hidden_layers == LAYERS
    base = load_model("smollm2", layers=LAYERS).state_dict()
    parts = {name: w - base[name] for name, w in exported.state_dict().items() if name in base}
    changed = {name: part for name, part in parts.items() if part.abs().max() > 1e-6}
    assert changed
    for name, part in changed.items():
        assert name.endswith("_proj.weight"), name
        # Of full float32 precision: beyond rank 4 there is only what rounding leaves.
        values = torch.linalg.svdvals(part.double())
        assert values[4] < 1e-3 * values[0], name
    tokenizer = AutoTokenizer.from_pretrained(directory / "member", local_files_only=True)
    assert len(tokenizer("whole milk")["input_ids"]) >= 2
