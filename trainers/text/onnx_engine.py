"""ONNX Runtime as the engine of a text member: exported once, kept in the user's cache.

An ONNX file is made here from the weights in memory, never read from an artefact: of what others
hand over, only safetensors are trusted. The cache belongs to the user who serves, like the weights
that transformers keeps there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from penchant.platform.swap import swap_in, workspace
from penchant.trainers.text.network import TextNetwork

__all__ = ["OnnxEngine", "default_cache", "onnx_engine"]

# By measurement (`benchmarks/text_engines.py`) larger batches win nothing here, and padding costs.
_BATCH_TOKENS = 128
_FORMAT = 1  # of the exported graph; another number exports again
_FILE = "model.onnx"
_UNUSED_S = 30 * 86_400
_VERSIONS = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")


class OnnxEngine:
    """An exported model in a session of its own.

    Args:
        file: ONNX file that `onnx_engine` made.
        threads: CPUs that it may compute on.
    """

    def __init__(self, name: str, file: Path, threads: int) -> None:
        import onnxruntime

        self.name, self.batch_tokens = name, _BATCH_TOKENS
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        # Threads that wait for the next request would take the CPU from other replicas.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        pooled: NDArray[np.float32] = self._session.run(None, {"ids": ids, "mask": mask})[0]
        return pooled


def onnx_engine(
    network: TextNetwork, *, int8: bool, threads: int, cache_dir: Path | None = None
) -> OnnxEngine:
    """A network's language model with its pooling, in ONNX Runtime.

    The first call of a network takes about ten seconds, and others that start meanwhile wait for
    it; after that the file is there.

    Args:
        int8: whether weights and activations of matrix products are cut to eight bits.
        cache_dir: where files are kept; by default the user's cache.
    """
    root = default_cache() if cache_dir is None else cache_dir
    home = root / _digest(network)
    with _alone(home):
        _drop_unused(root)
        fp32 = _kept(home / "fp32", lambda file: _export(network, file))
        chosen = _kept(home / "int8", lambda file: _quantise(fp32, file)) if int8 else fp32
        return OnnxEngine("onnx-int8" if int8 else "onnx", chosen, threads)


def default_cache() -> Path:
    """`penchant/engines` in the user's cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "penchant" / "engines"


class _Pooled(nn.Module):
    """`TextNetwork.vectors` in a form that can be exported for any number of texts."""

    def __init__(self, network: TextNetwork) -> None:
        super().__init__()
        self.base, self.mean = network.base, network.mean

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states = self.base(input_ids=ids, attention_mask=mask).last_hidden_state
        chosen = mask
        if not self.mean:  # only the last real token
            place = torch.arange(mask.shape[1], device=mask.device)
            chosen = (place[None, :] == mask.sum(1, keepdim=True) - 1).to(mask.dtype)
        weight = chosen[:, :, None].to(states.dtype)
        pooled: Tensor = (states * weight).sum(1) / weight.sum(1).clamp(min=1)
        return pooled


def _export(network: TextNetwork, file: Path) -> None:
    mask = torch.ones(3, 7, dtype=torch.int64)
    mask[1, 5:] = 0
    axes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens")}
    with _quiet("torch.onnx", "onnxscript", "onnx_ir"), torch.no_grad():
        program = torch.onnx.export(
            _Pooled(network).eval(),
            (torch.ones_like(mask), mask),
            dynamo=True,
            verbose=False,
            input_names=["ids", "mask"],
            output_names=["pooled"],
            dynamic_shapes={"ids": axes, "mask": axes},
        )
        if program is None:
            raise RuntimeError("torch.onnx.export gave no program")
        program.save(file, external_data=True)  # beside it: a protobuf ends at two gigabytes


def _quantise(fp32: Path, file: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet("root"):  # where the quantiser talks
        quantize_dynamic(
            fp32,
            file,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,  # CPUs without VNNI add pairs in 16 bits, which could overflow
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
        )


def _kept(directory: Path, make: Callable[[Path], None]) -> Path:
    """A file in the cache, made if it is not there; it appears whole or not at all."""
    if not (directory / _FILE).exists():
        with workspace(directory) as work:
            (work / "new").mkdir()
            make(work / "new" / _FILE)
            swap_in(work / "new", directory, work)
    return directory / _FILE


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One process at a time: replicas that start together export once."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.utime(home)  # it is in use
        yield  # closing the file releases the lock


def _drop_unused(root: Path) -> None:
    """Remove what no replica has started from for long: each refit leaves an engine behind."""
    for home in root.iterdir():
        if home.is_dir() and time.time() - home.stat().st_mtime > _UNUSED_S:
            shutil.rmtree(home, ignore_errors=True)  # another replica may be doing the same


def _digest(network: TextNetwork) -> str:
    """Of everything that the exported file depends on: weights, configuration, versions."""
    config = network.base.config.to_dict()
    card = {
        "format": _FORMAT,
        "mean": network.mean,
        "config": {k: v for k, v in config.items() if k not in ("_name_or_path", "dtype")},
        "versions": {name: metadata.version(name) for name in _VERSIONS},
    }
    digest = hashlib.sha256(json.dumps(card, sort_keys=True, default=str).encode())
    for name, tensor in sorted(network.base.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Exporters tell of packages that are not installed and of names that they changed."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
