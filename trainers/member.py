"""What a member is: a recipe fitted up to a cut-off time, which scores requests.

    fit(recipe, past) -> Member -> score(log, requests) -> (R, V)

A member keeps everything it learned in itself and reads only the user's own visible history from
the log, so that the log behind a request may be a year of events or the ten events of an HTTP body.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from penchant.platform import config
from penchant.platform.errors import DataError
from penchant.platform.events import EventLog
from penchant.platform.recipes import Recipe, TextRecipe
from penchant.platform.requests import Requests

__all__ = [
    "MEMBER_VERSION",
    "TEXT_FOLDER",
    "Member",
    "Past",
    "ReadsTexts",
    "check_tensors",
    "read_card",
    "read_tensors",
    "reads_texts",
    "write_member",
]

#: Version of a member's files; another version is refused.
MEMBER_VERSION = 1
MODEL_FILE = "model.safetensors"
#: Folder of a member's directory that holds the language model which learned with it.
TEXT_FOLDER = "text"
#: Bytes of a safetensors header: some hundred for each tensor, of which large models have a
#: thousand. The library takes 100 MB, a million tensors, and seconds for them.
_MAX_HEADER = 2_000_000

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Past:
    """Everything that a member may learn from: the events before `until_ms`, and what is asked."""

    log: EventLog
    spec: config.Requests
    until_ms: int
    texts: Sequence[str] = ()  # (V,), of the items; only members that read need them
    types: Sequence[str] = ()  # of events
    vectors: Path | None = None  # where vectors of the texts are kept, once they are made

    def rows(self) -> NDArray[np.int64]:
        """Log rows before the cut-off, in the log's order."""
        return np.flatnonzero(self.log.time_ms < self.until_ms)


class Member(Protocol):
    """A fitted recipe."""

    @property
    def recipe(self) -> Recipe:
        """What the member was made from."""
        ...

    @property
    def num_parameters(self) -> int:
        """Numbers that were learned."""
        ...

    def score(self, log: EventLog, requests: Requests) -> NDArray[np.float32]:
        """How inclined each user is to each candidate; larger is more.

        Returns:
            Shape (R, V) for `next_item`; (R, 1), a log-odds, for `binary`.
        """
        ...

    def save(self, directory: Path) -> None:
        """Write `member.json` and the learned numbers; `member.json` is written last."""
        ...


@runtime_checkable
class ReadsTexts(Member, Protocol):
    """A member that can score items which nobody knew when it learned, by their texts."""

    def cold_scores(
        self, log: EventLog, requests: Requests, texts: Sequence[str]
    ) -> NDArray[np.float32]:
        """How inclined each user is to each of N items that the catalogue does not have.

        On the scale of `score`: an item of the catalogue with the same text that the user has not
        had, and that is as rare, has the same score.

        Args:
            texts: of the items, N of them.
            requests: R of them; candidates that they have are not looked at.

        Returns:
            Shape (R, N).
        """
        ...


def reads_texts(recipe: Recipe) -> bool:
    """Whether members of a recipe are `ReadsTexts`: known without loading one."""
    return isinstance(recipe, TextRecipe)


def write_member(
    directory: Path,
    recipe: Recipe,
    state: Mapping[str, Any],
    tensors: Arrays,
    file: str = MODEL_FILE,
) -> None:
    """Write a member's files: safetensors and JSON, never a pickle."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: np.ascontiguousarray(t) for name, t in tensors.items()},
        directory / file,
    )
    card = {
        "version": MEMBER_VERSION,
        "recipe": json.loads(recipe.model_dump_json()),  # with "Infinity" as a text
        "state": dict(state),
    }
    partial = directory / "member.json.partial"
    partial.write_text(json.dumps(card, indent=1, allow_nan=False))
    partial.replace(directory / "member.json")


def read_card(directory: Path) -> tuple[Recipe, dict[str, Any]]:
    """Recipe and state of a saved member.

    Raises:
        DataError: there is no finished member, or one of another version.
    """
    path = directory / "member.json"
    if not path.exists():
        raise DataError(f"{directory} holds no member: expected a member.json. Fit it again.")
    card = json.loads(path.read_text())
    if card.get("version") != MEMBER_VERSION:
        raise DataError(
            f"{path} has version {card.get('version')!r}, expected {MEMBER_VERSION}. "
            "Fit the member again with this Penchant."
        )
    recipe: Recipe = TypeAdapter[Recipe](Recipe).validate_python(card["recipe"])
    return recipe, card["state"]


def read_tensors(directory: Path, file: str = MODEL_FILE) -> dict[str, NDArray[Any]]:
    """The learned numbers of a saved member.

    Raises:
        DataError: the file is missing, or it is not whole.
    """
    check_tensors(directory / file)
    tensors: dict[str, NDArray[Any]] = load_file(directory / file)
    return tensors


def check_tensors(path: Path) -> None:
    """See that a safetensors file is whole, by its header; no tensor is read.

    Raises:
        DataError: it is missing, it is not whole, or its header is too large.
    """
    try:
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if header > _MAX_HEADER:
            raise DataError(
                f"{path} has a header of {header:,} bytes, expected {_MAX_HEADER:,} at most: it is "
                "no member's file. Fit the member again."
            )
        with safe_open(path, framework="numpy"):
            pass
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"{path} cannot be read: {error}. Expected a whole safetensors file. Fit the member "
            "again, or copy it again from where it is whole."
        ) from error
