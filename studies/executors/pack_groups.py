"""Which trials may train together in one process (packed_trials.py). Standard library only."""

from __future__ import annotations

import json
from collections.abc import Collection

from studies.protocol.trial_spec import TrialSpec


def kind_of(spec: TrialSpec, over: Collection[str]) -> str:
    """A key that is equal for trials that may be packed: they differ only in certain model parameters and seeds.

    Args:
        over: the model class's `packable_hyperparameters`. Zero and any other value are two kinds: a model without
            dropout has no such layer.
    """
    model = spec.experiment["model"]
    arguments = model.get("init_args") or {}
    arguments = {name: bool(value) if name in over else value for name, value in arguments.items()}
    experiment = {**spec.experiment, "model": {**model, "init_args": arguments}}
    return json.dumps([experiment, spec.metric, spec.pruning], sort_keys=True)
