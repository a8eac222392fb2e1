"""The files of a language model: looked at before anything reads them, and named when they fail.

Pickles are never read and a model's own code is never run.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from penchant.platform.errors import ConfigError, is_out_of_memory
from penchant.platform.store import file_digest

__all__ = [
    "PICKLES",
    "TOKENIZER_FILES",
    "read_settings",
    "reading",
    "safe_directory",
    "without_bars",
]

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
)
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_CONFIG = "config.json"


def safe_directory(name: str, directory: Path) -> Path:
    """The directory, or the dequantised copy of its GGUF, once it is known to be safe to load.

    Raises:
        ConfigError: it brings code, or its weights are pickles or missing.
    """
    if not (directory / _CONFIG).exists():
        return _dequantised(name, directory)
    for file in (_CONFIG, "tokenizer_config.json"):
        if (directory / file).exists() and "auto_map" in read_settings(name, directory / file):
            raise ConfigError(
                f"base model {name!r} in {directory} brings Python code of its own (`auto_map` in "
                f"its {file}); expected a model of a class that transformers has, since such code "
                "is never run. Use another base, or remove `auto_map` if transformers knows the "
                "class."
            )
    if not any(directory.glob("*.safetensors")):
        found = ", ".join(sorted(p.name for p in directory.iterdir() if p.suffix in PICKLES))
        raise ConfigError(
            f"base model {name!r} in {directory} has as weights: {found or 'none'}; expected "
            "*.safetensors, since pickles can run code and are never read. Convert the weights "
            "with transformers' save_pretrained where you trust them."
        )
    return directory


def read_settings(name: str, path: Path) -> dict[str, Any]:
    """What a JSON file of a model says.

    Raises:
        ConfigError: it is damaged, or says something else than keys and values.
    """
    with reading(name, path):
        settings = json.loads(path.read_text())
        if not isinstance(settings, dict):
            raise ValueError(f"expected keys and values, got {type(settings).__name__}")
    return settings


@contextmanager
def reading(name: str, path: Path) -> Iterator[None]:
    """Whatever cannot be read in this block is told as the file's, or the directory's, fault.

    Too little memory is not: it stays what it is.

    Raises:
        ConfigError: something was raised in the block.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # readers raise those of JSON, safetensors, tokenizers and Python
        if is_out_of_memory(error):
            raise
        said = " ".join(str(error).split())[:300].rstrip(".")
        raise ConfigError(
            f"base model {name!r}: {_damaged(path)} cannot be read ({type(error).__name__}: "
            f"{said}). Expected what this version of transformers writes and knows. Copy or "
            "download the file again, save the model anew with transformers, or name another base."
        ) from error


def _damaged(path: Path) -> Path:
    """The first file of weights in a directory that is no safetensors; else the path itself."""
    from safetensors import SafetensorError, safe_open

    for file in sorted(path.glob("*.safetensors")):
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError):
            return file
    return path


def _dequantised(name: str, directory: Path) -> Path:
    """An fp32 copy of a GGUF in the user's cache: transformers takes 12 s for what then takes 1."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    files = sorted(directory.glob("*.gguf"))
    if len(files) != 1:
        raise ConfigError(
            f"base model {name!r} in {directory} has {len(files)} .gguf files, expected one. "
            "Keep the one that you mean in a directory of its own."
        )
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = home / "penchant" / "models" / file_digest(files[0])
    if kept.exists():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as partial, without_bars():
        copy = Path(partial) / "model"
        where = {"gguf_file": files[0].name, "local_files_only": True, "trust_remote_code": False}
        with reading(name, files[0]):
            model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, **where)
            tokenizer = AutoTokenizer.from_pretrained(directory, **where)
        del model.config.quantization_config  # what is in memory is plain fp32
        setattr(model, "hf_quantizer", None)  # noqa: B010  # torch types hide the attribute
        model.save_pretrained(copy)
        tokenizer.save_pretrained(copy)
        try:
            copy.rename(kept)
        except OSError:
            if not kept.exists():  # else another process was faster, with the same copy
                raise
    return kept


@contextmanager
def without_bars() -> Iterator[None]:
    """No progress bars for loading weights."""
    from transformers.utils import logging as noise

    shown = noise.is_progress_bar_enabled()
    noise.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            noise.enable_progress_bar()  # type: ignore[no-untyped-call]
