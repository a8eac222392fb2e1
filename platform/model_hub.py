"""Language models of the hub: from its local cache where that holds a whole one, else asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path, PurePath

from penchant.platform.errors import ConfigError
from penchant.platform.model_files import PICKLES, TOKENIZER_FILES

__all__ = ["find_on_hub"]

_ANSWER_S = 5.0
#: What is loaded of a model; weights that run code or are for other programs stay on the hub.
_READ = ["*.safetensors", "*.json", "*.model", "*.jinja", "vocab.txt", "merges.txt", "bpe.codes"]
_IN_FOLDERS = ["*/*"]  # of other formats, such as onnx/
_INDEX = "model.safetensors.index.json"


def find_on_hub(name: str, packages: Iterable[str]) -> Path:
    """Directory of a hub's model, downloaded unless the cache holds all that is needed of it.

    Args:
        packages: aliases of models that come with an installed package, for the error.

    Raises:
        ConfigError: the hub does not know the model or does not answer within seconds, or the model
            has no weights that may be read.
    """
    found = _cached(name)
    if found is not None:
        return found
    try:
        return _downloaded(name)
    except ConfigError:
        raise
    except Exception as error:  # those of the client, of its transport, and of the disk
        said = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"base model {name!r} was found neither as a path (a directory with a config.json or a "
            f".gguf), nor as an installed package ({', '.join(packages)}), nor whole in the hub's "
            f"cache; and the hub does not answer with it ({type(error).__name__}: {said}). Name "
            "one of these four."
        ) from error


def _cached(name: str) -> Path | None:
    """The snapshot in the cache, if it is whole: a download may have been cut off."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        found = Path(
            snapshot_download(
                name, local_files_only=True, allow_patterns=_READ, ignore_patterns=_IN_FOLDERS
            )
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return found if _whole(found) else None


def _downloaded(name: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    # what follows has no limit on the time of its first question: a silent hub is found out here
    known = HfApi().model_info(name, timeout=_ANSWER_S)
    weights = _weights(name, [file.rfilename for file in known.siblings or ()])
    return Path(
        snapshot_download(
            name,
            etag_timeout=_ANSWER_S,
            allow_patterns=[*_READ, *weights],
            ignore_patterns=_IN_FOLDERS,
        )
    )


def _weights(name: str, files: list[str]) -> list[str]:
    """Files of the hub to read beside `_READ`: none, or a GGUF where that is all there is."""
    here = [file for file in files if "/" not in file]
    safe, packed = ([f for f in here if f.endswith(e)] for e in (".safetensors", ".gguf"))
    if safe or len(packed) == 1:
        return [] if safe else packed
    if packed:
        raise ConfigError(
            f"base model {name!r} of the hub has {len(packed)} .gguf files, such as {packed[0]}; "
            "expected one, or *.safetensors. Download the one that you mean into a directory of "
            "its own, and name that."
        )
    pickles = [file for file in files if PurePath(file).suffix in PICKLES]
    raise ConfigError(
        f"base model {name!r} of the hub has as weights: {', '.join(pickles[:3]) or 'none'}; "
        "expected *.safetensors, since pickles can run code and are never read. Name another base, "
        "or convert the weights with transformers' save_pretrained where you trust them."
    )


def _whole(directory: Path) -> bool:
    """Whether configuration, tokenizer and all weights are there, or a GGUF, which has them all."""
    if any(path.exists() for path in directory.glob("*.gguf")):
        return True
    if not (directory / "config.json").exists():
        return False
    if not any((directory / file).exists() for file in TOKENIZER_FILES):
        return False
    if not (directory / _INDEX).exists():
        return any(path.exists() for path in directory.glob("*.safetensors"))
    try:
        parts = set(json.loads((directory / _INDEX).read_text())["weight_map"].values())
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return False
    return all((directory / part).exists() for part in parts)
