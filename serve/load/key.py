"""The API key of a caller: from a file or the environment, never from a command line."""

from __future__ import annotations

import os
from pathlib import Path

from penchant.platform.errors import ConfigError

__all__ = ["api_key"]

#: Environment variable with the key.
_VARIABLE = "PENCHANT_API_KEY"


def api_key(file: Path | None) -> str | None:
    """The key in a file, else in PENCHANT_API_KEY; None where there is neither.

    Raises:
        ConfigError: the file cannot be read, or holds something else than a key.
    """
    if file is None:
        return os.environ.get(_VARIABLE) or None
    try:
        key = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file} cannot be read ({type(error).__name__}), expected a file with an API key."
        ) from error
    if not key.isascii() or not key.isprintable() or not key or " " in key:
        raise ConfigError(f"{file} holds no API key, expected one line of letters and digits.")
    return key
