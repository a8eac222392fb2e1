"""`penchant schema`: every key of an experiment file, as JSON Schema for editors."""

from __future__ import annotations

import json

__all__ = ["schema"]


def schema() -> None:
    """Print the JSON Schema of an experiment file, so that editors complete and check it.

    \b
    Example:
      penchant schema > experiment.schema.json
    """
    from penchant.platform.config import Experiment

    print(json.dumps(Experiment.model_json_schema(), indent=2))
