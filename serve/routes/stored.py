"""Stored test requests as HTTP bodies: what the endpoint is asked when somebody wants to see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from penchant.platform.errors import DataError
from penchant.platform.events import Catalog, EventLog, read_log_card
from penchant.platform.requests import Requests, read_requests
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block
from penchant.serve.wire.schema import MAX_EVENTS

__all__ = ["StoredRequests"]


@dataclass(frozen=True, kw_only=True)
class StoredRequests:
    """The test requests of a run."""

    log: EventLog
    catalog: Catalog
    types: list[str]
    requests: Requests

    @classmethod
    def open(cls, place: Path) -> StoredRequests:
        """Those of a run directory.

        Raises:
            ConfigError: this is no run directory.
        """
        run = RunDirectory(place)
        run.manifest()
        return cls(
            log=EventLog.open(run.log),
            catalog=Catalog.open(run.log),
            types=read_log_card(run.log)["types"],
            requests=read_requests(run.requests(Block.TEST)),
        )

    def earliest(self) -> int:
        """Position of the first request, in time, whose user has a history that fits a body.

        Raises:
            DataError: there is none.
        """
        events = self.requests.end - self.requests.first(self.log)
        fits = np.flatnonzero((events > 0) & (events <= MAX_EVENTS))
        if not len(fits):
            raise DataError(
                f"no test request has a history of 1 to {MAX_EVENTS} events: there is nothing to "
                "show. Ask the endpoint yourself, as `penchant serve run` says."
            )
        return int(fits[np.argmin(self.requests.time_ms[fits])])

    def history(self, at: int) -> list[dict[str, Any]]:
        """The visible events of the request at a position, oldest first, as a body gives them."""
        rows = range(int(self.requests.first(self.log)[at]), int(self.requests.end[at]))
        events = []
        for row in rows:
            event = {
                "item": self.catalog.item_ids[self.log.item[row]],
                "time": int(self.log.time_ms[row]),
                "type": self.types[self.log.kind[row]],
                "value": float(self.log.value[row]),
            }
            if self.log.group is not None:
                event["group"] = str(self.log.group[row])
            events.append(event)
        return events

    def body(self, at: int) -> dict[str, Any]:
        """The question of the request at a position, without what it is asked about."""
        return {"time": int(self.requests.time_ms[at]), "history": self.history(at)}

    def targets(self, at: int) -> set[str]:
        """Ids of the items that were chosen."""
        begin, end = self.requests.target_offsets[at : at + 2]
        return {self.catalog.item_ids[item] for item in self.requests.target[begin:end]}
