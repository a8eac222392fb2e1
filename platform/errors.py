"""What can go wrong, and the exit code that each kind of trouble has.

PenchantError (4)
├── ConfigError (2)        the experiment file or a command line is wrong
├── DataError (3)          the events are refused
├── RunError (4)           a run started and failed
└── UnreachableError (5)   a cluster or a service does not answer

A message says what was received, what was expected, and how to mend it.
"""

from __future__ import annotations

__all__ = ["ConfigError", "DataError", "PenchantError", "RunError", "UnreachableError"]


class PenchantError(Exception):
    """Base of every error that a user can mend; the command line prints it without a traceback."""

    exit_code = 4


class ConfigError(PenchantError):
    """The experiment file, an override or an argument is wrong. Exit code 2."""

    exit_code = 2


class DataError(PenchantError):
    """The events or items cannot be used as they are. Exit code 3."""

    exit_code = 3


class RunError(PenchantError):
    """A run started and failed. Exit code 4."""

    exit_code = 4


class UnreachableError(PenchantError):
    """A cluster or a served endpoint does not answer. Exit code 5."""

    exit_code = 5


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says so itself: Python's, PyTorch's on a GPU or the host, or Ray's."""
    named = type(error).__name__ == "OutOfMemoryError"  # PyTorch's and Ray's: neither need be there
    told = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return named or told or isinstance(error, MemoryError)
