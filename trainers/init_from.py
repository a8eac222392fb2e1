"""Transfer: training begins with what a member learned on another log.

Weights that know single items stay behind: other items have other numbers. What reads texts goes
over, and the new log's items get their vectors from their own texts.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from penchant.platform.errors import ConfigError, DataError
from penchant.platform.recipes import SequenceRecipe, TextRecipe
from penchant.trainers.member import TEXT_FOLDER, read_card, read_tensors
from penchant.trainers.sequence.network import SequenceNetwork

if TYPE_CHECKING:
    from penchant.trainers.text.network import TextNetwork

__all__ = ["init_network", "origin", "started_text_network", "text_model"]

#: What knows single items, and their vectors, which are made from the new texts.
_OF_ITEMS = frozenset({"text", "item_bias", "copy_item.weight"})
#: Settings that shape the weights: the member that begins must have those of its source.
_ALIKE = {"sequence": ("text", "size", "copy_half_lives_days"), "text": ("base", "layers")}


def origin(recipe: SequenceRecipe | TextRecipe) -> dict[str, str] | None:
    """Where training begins: the source's directory and a digest of its files; None for nowhere.

    Raises:
        ConfigError: the source is no member that this recipe may begin with.
    """
    if recipe.init_from is None:
        return None
    directory, _, _ = _source(recipe)
    digest = hashlib.sha256()
    for path in [directory / "member.json", *sorted(directory.rglob("*.safetensors"))]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return {"directory": recipe.init_from, "sha256": digest.hexdigest()}


def text_model(recipe: SequenceRecipe) -> str:
    """The language model of a recipe's item vectors: its source's own, if it has one, else `text`.

    Raises:
        ConfigError: the recipe names none, or the source is no member that it may begin with.
    """
    if recipe.text is None:
        raise ConfigError("this sequence member reads no texts: name a language model in `text`.")
    if recipe.init_from is None:
        return recipe.text
    learned = _source(recipe)[0] / TEXT_FOLDER
    return str(learned) if learned.exists() else recipe.text


def init_network(network: SequenceNetwork, recipe: SequenceRecipe) -> None:
    """Put the weights of the recipe's source, if it has one, into a fresh network.

    Raises:
        ConfigError: the source is no member that this recipe may begin with.
    """
    if recipe.init_from is None:
        return
    directory, _, _ = _source(recipe)
    own = network.state_dict()
    found = {name: torch.from_numpy(t) for name, t in read_tensors(directory).items()}
    for name in own.keys() - _OF_ITEMS:
        if found[name].shape != own[name].shape:
            raise ConfigError(
                f"init_from {recipe.init_from}: its {name} has the shape "
                f"{tuple(found[name].shape)}, expected {tuple(own[name].shape)}: its language "
                "model has another width. Name a member of the same language model."
            )
        own[name] = found[name]
    network.load_state_dict(own)


def started_text_network(recipe: TextRecipe, *, binary: bool) -> TextNetwork:
    """The network that training begins with: the recipe's base with fresh heads, or its source.

    Heads go over where they say the same: to the same task, weights of counts with the same decays.

    Raises:
        ConfigError: the base cannot be used, or the source is no member that this recipe may begin
            with.
    """
    from penchant.trainers.text.model import HEAD_FILE  # brings transformers
    from penchant.trainers.text.network import build_network

    if recipe.init_from is None:
        return build_network(recipe, binary=binary)
    directory, source, state = _source(recipe)
    network = build_network(recipe.model_copy(update={"base": str(directory)}), binary=binary)
    if state["binary"] != binary:
        return network
    tensors = read_tensors(directory, HEAD_FILE)
    heads = {n: t for n, t in tensors.items() if n.startswith("head.")}
    if source.copy_half_lives_days != recipe.copy_half_lives_days:
        heads.pop("head.copy", None)
    named = dict(network.named_parameters())
    with torch.no_grad():
        for name, tensor in heads.items():
            named[name.removeprefix("head.")].copy_(torch.from_numpy(tensor))
    return network


def _source(recipe: SequenceRecipe | TextRecipe) -> tuple[Path, Any, dict[str, Any]]:
    """Directory, recipe and state of the member that training begins with, known to fit."""
    place = f"init_from {recipe.init_from}"
    directory = Path(str(recipe.init_from))
    try:
        source, state = read_card(directory)
    except DataError as error:
        raise ConfigError(f"{place}: expected the directory of a member; {error}") from error
    if source.kind != recipe.kind:
        raise ConfigError(
            f"{place} is a {source.kind} member, expected a {recipe.kind} member like the one that "
            "is to begin with it. Name another member."
        )
    if isinstance(source, SequenceRecipe) and source.ids:
        raise ConfigError(
            f"{place} has `ids: true`: it knows another log's items one by one, which mean nothing "
            "here. Expected a member with `ids: false` and a `text` model."
        )
    for name in _ALIKE[recipe.kind]:
        theirs, ours = getattr(source, name), getattr(recipe, name)
        if theirs != ours:
            raise ConfigError(
                f"{place} has {name}: {theirs}, expected {ours} as in the member that is to begin "
                "with it. Make them the same, or name another member."
            )
    return directory, source, state
