"""The research harness. Its Python API, for scripts and notebooks (docs/python.md):

import studies
result = studies.study("mnist_mlp", trials=8, workers=2)
result.best
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from studies.common.errors import WorkFailed
    from studies.config.search_space import Choice, Range
    from studies.python_api.commands import confirm, report, resume, study, train
    from studies.python_api.experiment import Experiment
    from studies.python_api.reading import compare, load, runs

_HOMES = {  # imported when first used: every part of the harness imports this package
    "Experiment": "studies.python_api.experiment",
    "Range": "studies.config.search_space",
    "Choice": "studies.config.search_space",
    "train": "studies.python_api.commands",
    "study": "studies.python_api.commands",
    "resume": "studies.python_api.commands",
    "confirm": "studies.python_api.commands",
    "report": "studies.python_api.commands",
    "runs": "studies.python_api.reading",
    "compare": "studies.python_api.reading",
    "load": "studies.python_api.reading",
    "WorkFailed": "studies.common.errors",
}
__all__ = [
    "Experiment",
    "Range",
    "Choice",
    "train",
    "study",
    "resume",
    "confirm",
    "report",
    "runs",
    "compare",
    "load",
    "WorkFailed",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'studies' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
