"""Histories for the console: stored test requests of the run that is served, where it is at hand.

They are a choice of the service owner: `penchant serve run RUN_DIR` leaves some of the run's own
requests in the service directory, and a cluster's service has none unless its owner puts them.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from penchant.platform.store import write_json
from penchant.serve.routes.console_page import ConsoleExample
from penchant.serve.routes.stored import StoredRequests
from penchant.serve.versions.service import Service

__all__ = ["console_examples", "keep_examples"]

logger = logging.getLogger(__name__)

_EXAMPLES = 5
_LONGEST = 100  # events of a history that people still can read


def keep_examples(service: Service, run: Path) -> None:
    """Leave some test requests of a run for the console."""
    stored = StoredRequests.open(run)
    asked = stored.requests
    events = asked.end - asked.first(stored.log)
    fits = np.flatnonzero((events > 0) & (events <= _LONGEST))
    chosen = fits[np.linspace(0, len(fits) - 1, min(_EXAMPLES, len(fits))).astype(int)]
    found: list[dict[str, Any]] = []
    for at in chosen:
        body = stored.body(int(at))
        if asked.candidate is not None:
            body |= {"candidates": [stored.catalog.item_ids[asked.candidate[at]]]}
        found.append({"title": f"A user with {len(body['history'])} events", "body": body})
    write_json(service.examples, found)


def console_examples(service: Service) -> list[ConsoleExample]:
    """What was left for the console; nothing where it cannot be read: a front does without."""
    try:
        found: list[dict[str, Any]] = json.loads(service.examples.read_text())
        return [ConsoleExample(title=one["title"], body=one["body"]) for one in found]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError) as error:
        logger.warning("%s: no examples (%s)", service.examples, type(error).__name__)
        return []
