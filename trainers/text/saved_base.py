"""The language model in a saved member's directory, looked at before transformers reads it.

A directory may come from elsewhere, with hashes that match. So nothing is left to what transformers
looks for there: weights are safetensors, and no code comes along.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, PreTrainedModel

from penchant.platform.errors import DataError
from penchant.platform.model_files import without_bars
from penchant.trainers.member import MODEL_FILE, check_tensors

__all__ = ["load_saved_base"]

_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5"})
_INDEX = f"{MODEL_FILE}.index.json"


def load_saved_base(directory: Path) -> PreTrainedModel:
    """The language model of a saved member, in fp32; nothing that lies there is run.

    Raises:
        DataError: weights are pickles, damaged or missing; the model brings code; or it names
            weights that lie elsewhere.
    """
    _check(directory)
    with without_bars():
        base: PreTrainedModel = AutoModel.from_pretrained(
            directory,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
        )
    return base


def _check(directory: Path) -> None:
    pickles = sorted(path.name for path in directory.iterdir() if path.suffix in _PICKLES)
    if pickles:
        raise DataError(
            f"{directory} holds {', '.join(pickles)}; expected weights in {MODEL_FILE} alone: "
            "pickles can run code and are never read. Save the member with Penchant again."
        )
    for name in ("config.json", "tokenizer_config.json"):
        _refuse_code(directory / name)
    if (directory / "adapter_config.json").exists():
        raise DataError(
            f"{directory} holds an adapter_config.json; expected a model with its adapters merged, "
            "as Penchant saves it. Save the member with Penchant again."
        )
    for file in _weights(directory):
        check_tensors(directory / file)


def _refuse_code(path: Path) -> None:
    settings = _settings(path)
    for key in ("auto_map", "transformers_weights"):
        if key in settings:
            raise DataError(
                f"{path} has `{key}`: {settings[key]!r}; expected a model of a class that "
                f"transformers has, with its weights in {MODEL_FILE}, since code that a model "
                "brings is never run. Save the member with Penchant again."
            )


def _weights(directory: Path) -> list[str]:
    """Files of the weights: one, or the parts of a large model."""
    if (directory / MODEL_FILE).exists() or not (directory / _INDEX).exists():
        return [MODEL_FILE]
    parts = _settings(directory / _INDEX).get("weight_map")
    names = set(parts.values()) if isinstance(parts, dict) else set()
    for name in names or {None}:
        if not isinstance(name, str) or "/" in name or not name.endswith(".safetensors"):
            raise DataError(
                f"{directory / _INDEX} names {name!r} as a part of the weights, expected "
                "*.safetensors beside it. Save the member with Penchant again."
            )
    return sorted(names)


def _settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read: {error}. Expected JSON that transformers has written. Save "
            "the member with Penchant again."
        ) from error
    return settings if isinstance(settings, dict) else {}
