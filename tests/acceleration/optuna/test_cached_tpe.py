"""The caching TPE against Optuna's own: the same draws after any history of the study."""

from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from studies.acceleration.optuna.cached_tpe import CachedTPE

optuna.logging.set_verbosity(optuna.logging.ERROR)

VALUES = st.one_of(st.sampled_from([0.0, 0.5]), st.floats(-1, 1), st.just(float("inf")))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("COMPLETE"), VALUES),
        st.tuples(st.just("PRUNED"), st.integers(0, 3), st.one_of(VALUES, st.just(float("nan")))),
        st.tuples(st.just("PRUNED at once")),
        st.tuples(st.just("FAIL")),
        st.tuples(st.just("left running")),
        st.tuples(st.just("an older one ends"), VALUES),
        st.tuples(st.just("waiting")),
    ),
    min_size=5,
    max_size=25,
)


def drawn(trial: optuna.Trial, *, branches: bool) -> dict[str, Any]:
    trial.suggest_float("rate", 1e-4, 1.0, log=True)
    kind = trial.suggest_categorical("kind", ["a", "b", "c"])
    trial.suggest_int("units", 1, 512, log=True)
    trial.suggest_float("share", 0.0, 0.5, step=0.1)
    if branches and kind == "b":
        trial.suggest_int("only of b", 0, 9)
    return trial.params


def played(
    steps: list[tuple[Any, ...]], direction: Any, memory: bool, branches: bool, pruned: bool = False, **options: Any
) -> list[dict[str, Any]]:
    """The parameters of each trial of a study, which lives through those steps; a sampler of its own for each.

    Args:
        pruned: so are the trials before those steps, and so are among the good ones.
    """
    study = optuna.create_study(direction=direction, sampler=optuna.samplers.RandomSampler(0), **options)
    params, running = [], []
    search_space, remembered = None, None
    for number in range(12):  # TPE's first 10 draws are random
        trial = study.ask()
        drawn(trial, branches=branches)
        if pruned:
            trial.report((number * 7 % 12) / 12, step=number % 3)
        study.tell(trial, None if pruned else (number * 7 % 12) / 12, state=TrialState.PRUNED if pruned else None)
    for number, (step, *arguments) in enumerate(steps):
        sampler = CachedTPE(number) if memory else optuna.samplers.TPESampler(seed=number)
        if isinstance(sampler, CachedTPE):
            sampler.memory = remembered = remembered or sampler.memory
        sampler._search_space = search_space = search_space or sampler._search_space
        study.sampler = sampler
        trial = study.ask()
        params.append(drawn(trial, branches=branches))
        if step == "left running":
            running.append(trial)
        elif step == "an older one ends":
            running.append(trial)
            study.tell(running.pop(0), *arguments)
        elif step == "PRUNED at once":
            study.tell(trial, state=TrialState.PRUNED)
        elif step == "PRUNED":
            trial.report(arguments[1], arguments[0])
            study.tell(trial, state=TrialState.PRUNED)
        elif step == "FAIL":
            study.tell(trial, state=TrialState.FAIL)
        else:
            if step == "waiting":
                study.enqueue_trial({"rate": 0.5})
            study.tell(trial, *(arguments or [0.25]))
    return params


@settings(max_examples=25, deadline=None)
@given(steps=STEPS, direction=st.sampled_from(["minimize", "maximize"]), branches=st.booleans(), pruned=st.booleans())
def test_draws_equal_optunas(steps: list[tuple[Any, ...]], direction: str, branches: bool, pruned: bool) -> None:
    ours, theirs = (played(steps, direction, memory, branches, pruned) for memory in (True, False))
    assert ours == theirs


def test_hyperband_uses_optunas_own_sampler() -> None:
    steps = [("COMPLETE", value / 20) for value in range(20)]
    pruner: dict[str, Any] = {"pruner": optuna.pruners.HyperbandPruner(max_resource=9), "study_name": "s"}
    ours, theirs = (played(steps, "maximize", memory, branches=False, **pruner) for memory in (True, False))
    assert ours == theirs


def test_constraints_use_optunas_own_sampler() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    for number in range(15):
        trial = study.ask()
        drawn(trial, branches=False)
        trial.set_constraint("size", number - 7.0)
        study.tell(trial, number / 15)
    params = []
    for sampler in (CachedTPE(3), optuna.samplers.TPESampler(seed=3)):
        study.sampler = sampler
        trial = study.ask()
        params.append(drawn(trial, branches=False))
        study.tell(trial, state=TrialState.FAIL)
    assert params[0] == params[1]


def test_an_ended_trial_is_processed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study()
    memory = CachedTPE(0).memory
    taken = []
    monkeypatch.setattr(memory, "_take", lambda trial, sign: taken.append(trial.number))
    trials = [study.ask() for _ in range(5)]
    for number in (3, 0, 1):
        study.tell(trials[number], 0.0)
        memory.note(study.get_trials(deepcopy=False), 1.0)
    assert taken == [3, 0, 1] and memory._first_open == 2
    assert [trial.number for trial in memory.note(study.get_trials(deepcopy=False), 1.0)] == [2, 4]


def test_a_resumed_trial_draws_the_same_values() -> None:
    """What it drew at first is kept with it, and is no evidence against drawing it again."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    for number in range(15):
        trial = study.ask()
        drawn(trial, branches=False)
        study.tell(trial, (number * 7 % 15) / 15)
    for number in range(10):
        study.sampler = CachedTPE(number)
        trial = study.ask()
        first = trial.relative_params
        study.sampler = CachedTPE(number)
        assert first and optuna.trial.Trial(study, trial._trial_id).relative_params == first
