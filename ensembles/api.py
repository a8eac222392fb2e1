"""What notebooks and scripts need, under one name: `from penchant.ensembles.api import ...`.

The folder has no `__init__.py`, see CONTRIBUTING.md, so that its names come from this module. It
brings neither torch nor Ray in.
"""

from __future__ import annotations

from penchant.ensembles.artefacts.artefact import Ensemble, load_ensemble
from penchant.ensembles.artefacts.pack import pack_ensemble, unpack_ensemble
from penchant.ensembles.comparing.foreign import (
    ForeignComparison,
    ForeignScores,
    compare_scores,
    look_closer,
    read_scores,
)
from penchant.ensembles.page.explain import explain
from penchant.platform.errors import ConfigError, DataError

__all__ = [
    "ConfigError",
    "DataError",
    "Ensemble",
    "ForeignComparison",
    "ForeignScores",
    "compare_scores",
    "explain",
    "load_ensemble",
    "look_closer",
    "pack_ensemble",
    "read_scores",
    "unpack_ensemble",
]
