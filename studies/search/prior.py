"""Results of another study as prior knowledge of a sampler.

The sampler draws in a study in memory, which holds the other study's trials and this study's, so TPE and Gaussian
processes model both. The real study has this study's trials alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from studies.search.samplers import holds, suggest

LEARNS = ("tpe", "gp")  # samplers that model whatever trials there are


def prior_trials(trials: Iterable[FrozenTrial], distributions: Mapping[str, BaseDistribution]) -> list[FrozenTrial]:
    """Another study's complete and pruned trials, with the parameters that both spaces have.

    Trials with a value outside this study's space are left out.
    """
    found = []
    for trial in trials:
        params = {name: trial.params[name] for name in distributions if name in trial.params}
        if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED) or not params:
            continue
        if all(holds(distributions[name], value) for name, value in params.items()):
            its = {name: distributions[name] for name in params}
            found.append(
                create_trial(
                    state=trial.state,
                    values=trial.values,
                    params={name: its[name].to_external_repr(its[name].to_internal_repr(params[name])) for name in its},
                    distributions=its,
                    intermediate_values=trial.intermediate_values,
                )
            )
    return found


class Prior:
    """What a study's samplers know. Their study has this study's trials after the other's, by number, so what they draw
    does not depend on restarts.

    Args:
        directions: of the objectives.
        trials: of the other study; see prior_trials.
        own: all trials of this study.
    """

    def __init__(self, directions: Sequence[Any], trials: Sequence[FrozenTrial], own: Sequence[FrozenTrial]) -> None:
        self._storage = optuna.storages.InMemoryStorage()
        self._study = optuna.create_study(storage=self._storage, directions=directions)
        self._id = self._storage.get_study_id_from_name(self._study.study_name)
        self._first = len(trials)
        self._study.add_trials(trials)
        for trial in own:
            self._study.add_trial(_waiting() if trial.state == TrialState.WAITING else trial)
        self._live: dict[int, optuna.Trial] = {}

    def ask(self, number: int, sampler: optuna.samplers.BaseSampler) -> optuna.Trial:
        """Opens the counterpart of this study's next trial, in which the sampler draws its parameters."""
        self._study.sampler = sampler
        self._live[number] = self._study.ask()
        return self._live[number]

    def open(self, number: int, trial: FrozenTrial) -> None:
        """Opens the counterpart of a trial that was enqueued or left running, with its parameters and reports."""
        while len(self._study.get_trials(deepcopy=False)) <= self._first + number:  # enqueued since
            self._study.add_trial(_waiting())
        its = self._storage.get_trial_id_from_study_id_trial_number(self._id, self._first + number)
        self._storage.set_trial_system_attr(its, "fixed_params", trial.params)
        if self._storage.get_trial(its).state == TrialState.WAITING:
            self._storage.set_trial_state_values(its, TrialState.RUNNING)
        self._live[number] = optuna.trial.Trial(self._study, its)
        for name, distribution in trial.distributions.items():
            suggest(self._live[number], name, distribution)
        known = self._storage.get_trial(its).intermediate_values
        for step, value in sorted(trial.intermediate_values.items()):
            if step not in known:
                self.report(number, step, value)

    def report(self, number: int, step: int, value: float) -> None:
        """Takes a new value of the only objective."""
        self._live[number].report(value, step)

    def close(self, number: int, state: TrialState, values: Sequence[float] | None) -> None:
        """Ends a running trial, with its values if it is complete."""
        self._study.tell(self._live.pop(number), values, state=state)


def _waiting() -> FrozenTrial:
    return create_trial(state=TrialState.WAITING)
