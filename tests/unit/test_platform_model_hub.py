"""Models of the hub: a cut download is none, a silent hub is left soon, pickles stay there."""

from __future__ import annotations

import fnmatch
import json
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from penchant.platform.errors import ConfigError
from penchant.platform.language_models import load_model, load_tokenizer, resolve_model

NAME = "acme/bert"
COMMIT = "a" * 40


@pytest.fixture
def snapshot(tmp_path, monkeypatch):
    """Where the cache keeps the model; nothing is there yet."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--acme--bert"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text(COMMIT)
    place = kept / "snapshots" / COMMIT
    place.mkdir(parents=True)
    return place


@pytest.fixture
def hub(monkeypatch, snapshot):
    """A hub that has the files of a directory; `asked` are the questions that it was asked."""
    import huggingface_hub

    local = huggingface_hub.snapshot_download
    has = SimpleNamespace(files={}, asked=[])

    def info(_, name, *, timeout):
        has.asked.append((name, timeout))
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in has.files])

    def download(name, *, allow_patterns, ignore_patterns, local_files_only=False, **more):
        if local_files_only:
            return local(name, local_files_only=True)
        assert more == {"etag_timeout": 5.0}
        for file, source in has.files.items():
            if any(fnmatch.fnmatch(file, pattern) for pattern in ignore_patterns):
                continue
            if any(fnmatch.fnmatch(file, pattern) for pattern in allow_patterns):
                shutil.copy(source, snapshot / file)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return has


def files_of(directory: Path) -> dict[str, Path]:
    return {path.name: path for path in directory.iterdir()}


@pytest.mark.parametrize(
    "missing", ["config.json", "model.safetensors", "vocab.txt", "a part", "the parts' list"]
)
def test_a_cache_that_lacks_something_is_filled_and_then_the_hub_is_asked_no_more(
    missing, hub, snapshot, grocer_bert, tmp_path
):
    base = Path(shutil.copytree(grocer_bert, tmp_path / "base"))
    index = base / "model.safetensors.index.json"
    if missing in ("a part", "the parts' list"):
        (base / "model.safetensors").rename(base / "part.safetensors")
        index.write_text(json.dumps({"weight_map": {"x": "part.safetensors"}}))
    hub.files = files_of(base)
    shutil.copytree(base, snapshot, dirs_exist_ok=True)
    if missing == "the parts' list":
        (snapshot / index.name).write_text("{cut")
    else:
        (snapshot / missing.replace("a part", "part.safetensors")).unlink()
    assert resolve_model(NAME) == snapshot
    assert files_of(snapshot).keys() == files_of(base).keys()
    assert resolve_model(NAME) == snapshot
    assert hub.asked == [(NAME, 5.0)]


def test_pickles_and_other_formats_stay_on_the_hub(hub, snapshot, grocer_bert):
    other = grocer_bert / "vocab.txt"  # of any content
    unread = ["pytorch_model.bin", "tf_model.h5", "onnx/model.safetensors", "README.md", "q.gguf"]
    hub.files = files_of(grocer_bert) | dict.fromkeys(unread, other)
    assert load_model(NAME).config.vocab_size == 9
    assert load_tokenizer(NAME).pad_token == "[PAD]"
    assert files_of(snapshot).keys() == files_of(grocer_bert).keys()


def test_a_packed_model_is_read_where_there_is_one_and_no_other(hub, snapshot, grocer_bert):
    hub.files = {"one.gguf": grocer_bert / "vocab.txt"}
    assert resolve_model(NAME) == snapshot
    assert list(files_of(snapshot)) == ["one.gguf"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["config.json", "pytorch_model.bin"], "has as weights: pytorch_model.bin; expected"),
        (["config.json", "onnx/model.safetensors"], "has as weights: none; expected"),
        (["a.gguf", "b.gguf"], r"has 2 \.gguf files, such as a\.gguf; expected one"),
    ],
)
def test_weights_that_cannot_be_read_are_refused_before_they_are_downloaded(
    files, message, hub, snapshot
):
    hub.files = dict.fromkeys(files, Path("not", "there"))
    with pytest.raises(ConfigError, match=message):
        resolve_model(NAME)


def test_whatever_the_client_raises_is_told_with_the_four_places(hub, monkeypatch):
    import huggingface_hub

    class ProxyError(Exception):
        """Not one of the hub's own: those of its transport are none."""

    def forbidden(*_, **__):
        raise ProxyError("403 Forbidden")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", forbidden)
    with pytest.raises(
        ConfigError,
        match=r"neither as a path .*package .*cache; and the hub .*\(ProxyError: 403 Forbidden\)",
    ):
        resolve_model(NAME)


def test_a_hub_that_takes_the_question_and_never_answers_is_left(snapshot, monkeypatch):
    """Nothing but a time limit ends it: the socket accepts, and stays silent."""
    from huggingface_hub import constants

    from penchant.platform import model_hub

    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", place)
        monkeypatch.setattr(model_hub, "_ANSWER_S", 0.2)
        with pytest.raises(ConfigError, match=r"does not answer with it \(ReadTimeout"):
            resolve_model(NAME)
