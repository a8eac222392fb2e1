"""A member's directory is looked at before it is read: no pickle, no code, nothing that is broken.

Hashes do not help here: whoever makes an artefact writes them too.
"""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from penchant.platform.errors import DataError
from penchant.trainers.fit import load_member
from penchant.trainers.member import read_tensors

__all__: list[str] = []


class Bomb:
    """A pickle that leaves a trace where it is read."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.fixture(scope="module")
def whole(world, recipes, fit_member, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("saved") / "member"
    fit_member(recipes["text"], world("baskets").past).save(directory)
    return directory


@pytest.fixture
def saved(whole, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(whole, tmp_path / "member"))


def with_setting(path: Path, key: str, value: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))


def long_header(path: Path, tensors: int) -> None:
    """So many tensors without a number, which safetensors itself takes."""
    one = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"t{at:06}": one for at in range(tensors)}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)


def test_a_pickle_in_the_weights_stead_is_refused_and_not_read(saved, tmp_path):
    (saved / "model.safetensors").unlink()
    (saved / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    with pytest.raises(
        DataError, match=r"holds pytorch_model\.bin; expected weights in model\.saf"
    ):
        load_member(saved)
    assert not (tmp_path / "exploded").exists()


def test_weights_that_torch_has_saved_are_refused_though_they_are_sound(saved):
    """Nothing of them is wrong but their kind: transformers alone would load them."""
    weights = {name: torch.from_numpy(t) for name, t in read_tensors(saved).items()}
    (saved / "model.safetensors").unlink()
    torch.save(weights, saved / "pytorch_model.bin")
    with pytest.raises(DataError, match="pickles can run code and are never read"):
        load_member(saved)


def test_pickles_beside_the_weights_are_refused_too(saved):
    """Such as those of an adapter, which transformers looks for."""
    (saved / "adapter_model.bin").write_bytes(pickle.dumps(1))
    with pytest.raises(DataError, match=r"holds adapter_model\.bin"):
        load_member(saved)


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("config.json", "auto_map", {"AutoModel": "evil.Model"}),
        ("tokenizer_config.json", "auto_map", {"AutoTokenizer": ["evil.Tokenizer", None]}),
        ("config.json", "transformers_weights", "other.safetensors"),
    ],
)
def test_a_model_that_brings_code_or_names_other_weights_is_refused(saved, file, key, value):
    with_setting(saved / file, key, value)
    with pytest.raises(DataError, match=rf"{file} has `{key}`.*code that a model brings is never"):
        load_member(saved)


def test_an_adapter_is_refused(saved):
    (saved / "adapter_config.json").write_text("{}")
    with pytest.raises(DataError, match="expected a model with its adapters merged"):
        load_member(saved)


@pytest.mark.parametrize("part", ["weights.txt", "../other.safetensors", 7])
def test_an_index_that_names_other_parts_than_safetensors_beside_it_is_refused(saved, part):
    (saved / "model.safetensors").rename(saved / "weights.txt")
    index = {"metadata": {}, "weight_map": {"embeddings": part}}
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=r"index\.json names .* expected \*\.safetensors beside"):
        load_member(saved)


def test_a_large_model_in_parts_is_read(saved, world):
    here = world("baskets")
    expected = load_member(saved).score(here.log, here.asked())
    weights = read_tensors(saved)
    (saved / "model.safetensors").unlink()
    parts = {name: f"model-{at % 2}.safetensors" for at, name in enumerate(weights)}
    for part in set(parts.values()):
        chosen = {name: weights[name] for name, one in parts.items() if one == part}
        save_file(chosen, saved / part, {"format": "pt"})
    index = {"metadata": {}, "weight_map": parts}
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    np.testing.assert_array_equal(load_member(saved).score(here.log, here.asked()), expected)


@pytest.mark.parametrize("content", [None, "{"])
def test_settings_that_are_missing_or_no_json_are_named(saved, content):
    path = saved / "config.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=r"config\.json cannot be read.*Save the member"):
        load_member(saved)


@pytest.mark.parametrize("file", ["model.safetensors", "head.safetensors"])
@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_file_that_is_cut_off_is_named(saved, file, kept):
    path = saved / file
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=rf"{file} cannot be read: .*a whole safetensors file"):
        load_member(saved)


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match=r"model\.safetensors cannot be read"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("length", [2_000_001, 2**63])
def test_a_header_of_absurd_length_is_refused(tmp_path, length):
    (tmp_path / "model.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(DataError, match=f"has a header of {length:,} bytes, expected 2,000,000"):
        read_tensors(tmp_path)


def test_a_header_of_absurdly_many_tensors_is_refused_and_one_of_many_is_not(tmp_path):
    """A tensor's line has 66 bytes: 100,000 of them make 6.6 MB, 1,000 make 66 kB."""
    long_header(tmp_path / "model.safetensors", 100_000)
    with pytest.raises(DataError, match="has a header of 6,"):
        read_tensors(tmp_path)
    long_header(tmp_path / "model.safetensors", 1_000)
    assert len(read_tensors(tmp_path)) == 1_000
