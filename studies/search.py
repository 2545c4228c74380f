"""The search: Optuna asked and told, and nothing else. The only file that imports optuna.

There is one writer to a study, the driver, so trials are neither lost nor drawn twice. The sampler is made
anew for each trial from (study seed, trial number): under random and grid a trial's parameters depend on
nothing else, so restarts and the number of workers change nothing.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from studies.locks import file_lock
from studies.space import Choice, Range, Space, decode_choice, encode_choice, grid_of

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

DEFINITION = "harness.definition"  # study attribute: what may not change while a study goes on
RUN = "harness.run_id"  # trial attribute: the MLflow run
STATES = {"COMPLETE": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED, "FAIL": TrialState.FAIL}


def derive_seed(seed: int, number: int, purpose: str) -> int:
    """A seed of a study's n-th trial: between 0 and 2**31 - 1, a function of (study seed, number, purpose) alone.

    `purpose` keeps the draws apart: "sampler" for its parameters, "training" for its weights and samples.
    """
    digest = hashlib.sha256(f"{seed}:{number}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """A fresh sampler: random | grid | tpe | gp | cmaes (gp imports torch; grid's points are enqueued)."""
    samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "grid": lambda: optuna.samplers.RandomSampler(seed=seed),
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed),
        "cmaes": lambda: optuna.samplers.CmaEsSampler(seed=seed),
    }
    return samplers[name]()


def make_pruner(name: str, reports: int | None) -> optuna.pruners.BasePruner:
    """A pruner: none | median | hyperband | asha.

    Args:
        reports: how many values a whole trial reports (validations), or None if nobody knows.
    """
    pruners: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(max_resource=reports or "auto"),
        # A short trial (5 epochs) still wants rungs: keep one in two rather than the default one in four.
        "asha": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
    }
    return pruners[name]()


@dataclass
class TrialRow:
    """A trial as the leaderboard sees it. `state`: COMPLETE, PRUNED, FAIL, RUNNING or WAITING."""

    number: int
    state: str
    value: float | None
    params: dict[str, Any] = field(default_factory=dict)
    run_id: str | None = None
    seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("number", "state", "value", "params", "run_id")}


class Search:
    """One Optuna study.

    Args:
        storage: database URL, e.g. "sqlite:////home/me/mlruns/optuna.db".
        name: of the study; made if it is not there, gone on with if it is.
        definition: JSON-able; what makes the study this study (experiment, space, metric, direction, seed).
        space: of the parameters, or "package.module:function", a function of an Optuna trial that returns
            dotted parameter name -> value.
        sampler: random | grid | tpe | gp | cmaes.
        pruner: none | median | hyperband | asha.
        reports: see make_pruner.

    Raises:
        ValueError: if a study of that name has another definition, or the space's function does not import.
    """

    def __init__(
        self,
        storage: str,
        name: str,
        definition: dict[str, Any],
        space: Space | str,
        sampler: str,
        pruner: str,
        reports: int | None,
    ) -> None:
        self.name = name
        self.direction: str = definition["direction"]
        self._seed: int = definition["seed"]
        self._space = space
        self._function = _import_function(space) if isinstance(space, str) else None
        self._sampler = sampler
        self._grid = grid_of(space, self._seed) if sampler == "grid" and not isinstance(space, str) else None
        with _creating(storage):
            self._storage = optuna.storages.RDBStorage(storage, engine_kwargs=_engine_arguments(storage))
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=name,
                direction=self.direction,
                load_if_exists=True,
                pruner=make_pruner(pruner, reports),
            )
            self._define(definition)
        self._live: dict[int, optuna.Trial] = {}
        self._reported: dict[int, set[int]] = {}  # trial -> steps

    def _define(self, definition: dict[str, Any]) -> None:
        wanted = json.loads(json.dumps(definition))
        known = self._study.user_attrs.get(DEFINITION)
        if known is None:
            self._study.set_user_attr(DEFINITION, wanted)
            return
        for key in wanted:
            if wanted[key] != known.get(key):
                raise ValueError(
                    f"study {self.name} exists with another {key}: it has {_short(known.get(key))}, but got "
                    f"{_short(wanted[key])}; give another --study-name"
                )

    @property
    def points(self) -> int | None:
        """How many different trials there can be: the size of the grid, else None for endlessly many."""
        return None if self._grid is None else len(self._grid)

    def ask(self) -> TrialRow:
        """Opens the next trial and draws its parameters."""
        number = len(self._study.get_trials(deepcopy=False))
        waiting = [trial for trial in self._study.get_trials(deepcopy=False) if trial.state == TrialState.WAITING]
        if self._grid is not None and not waiting:
            self._study.enqueue_trial({name: encode_choice(value) for name, value in self._grid[number].items()})
        self._study.sampler = make_sampler(self._sampler, derive_seed(self._seed, number, "sampler"))
        trial = self._study.ask()
        self._live[trial.number], self._reported[trial.number] = trial, set()
        return TrialRow(trial.number, "RUNNING", None, self._suggest(trial))

    def reopen(self, number: int) -> TrialRow:
        """Goes on with a trial that a former driver left RUNNING: the same parameters, the missing ones drawn."""
        frozen = self._study.get_trials(deepcopy=False)[number]
        self._study.sampler = make_sampler(self._sampler, derive_seed(self._seed, number, "sampler"))
        trial = optuna.trial.Trial(self._study, frozen._trial_id)
        self._live[number], self._reported[number] = trial, set(frozen.intermediate_values)
        return TrialRow(number, "RUNNING", None, self._suggest(trial), frozen.user_attrs.get(RUN))

    def _suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        if self._function is not None:
            return dict(self._function(trial))
        assert not isinstance(self._space, str)
        params = {}
        for name, parameter in self._space.items():
            value = trial._suggest(name, distribution_of(parameter))
            params[name] = decode_choice(parameter, value) if isinstance(parameter, Choice) else value
        return params

    def bind(self, number: int, run_id: str) -> None:
        """Notes which MLflow run a trial is."""
        self._live[number].set_user_attr(RUN, run_id)

    def report(self, number: int, step: int, value: float) -> bool:
        """Notes a value of the metric (step: the how-many-eth, from 1); returns whether to prune the trial.

        A step that was reported before is not written again: a resumed trial may repeat itself.
        """
        trial = self._live[number]
        if value != value:
            return False
        if step not in self._reported[number]:
            trial.report(value, step)
            self._reported[number].add(step)
        return trial.should_prune()

    def tell(self, number: int, state: str, value: float | None) -> None:
        """Closes a trial: COMPLETE with its value, PRUNED with its value so far, or FAIL."""
        trial = self._live.pop(number)
        if state == "COMPLETE" and (value is None or value != value):
            state = "FAIL"
        # A pruned trial keeps what it reported last; Optuna takes no value with it.
        self._study.tell(trial, value if state == "COMPLETE" else None, state=STATES[state])

    def trials(self) -> list[TrialRow]:
        """All trials by number. The value of a pruned one is the last it reported."""
        rows = []
        for trial in self._study.get_trials(deepcopy=False):
            params = {name: self._decoded(name, value) for name, value in trial.params.items()}
            seconds = trial.duration.total_seconds() if trial.duration else None
            run_id = trial.user_attrs.get(RUN)
            rows.append(TrialRow(trial.number, trial.state.name, trial.value, params, run_id, seconds))
        return rows

    def _decoded(self, name: str, value: Any) -> Any:
        parameter = self._space.get(name) if not isinstance(self._space, str) else None
        return decode_choice(parameter, value) if isinstance(parameter, Choice) else value

    def importances(self) -> dict[str, float]:
        """How much of the metric's variance each parameter explains (fANOVA), or {} with under 4 complete trials."""
        complete = [row for row in self.trials() if row.state == "COMPLETE"]
        if len(complete) < 4 or len({row.value for row in complete}) < 2:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return optuna.importance.get_param_importances(self._study, evaluator=evaluator)


def check_space(space: Space | str, sampler: str) -> None:
    """Sees, before anything is created, that a sampler can work on a space.

    Raises:
        ValueError: for a function that does not import, or a grid with endlessly many points.
    """
    if isinstance(space, str):
        _import_function(space)
        if sampler == "grid":
            raise ValueError("sampler must not be grid where space is a function: it has no list of points")
    elif sampler == "grid":
        grid_of(space, 0)


def best_of(rows: list[TrialRow], direction: str) -> TrialRow | None:
    """The best complete trial; the earlier of two equal ones."""
    complete = [row for row in rows if row.state == "COMPLETE" and row.value is not None]
    sign = -1 if direction == "maximize" else 1
    return min(complete, key=lambda row: (sign * (row.value or 0.0), row.number), default=None)


def distribution_of(parameter: Range | Choice) -> BaseDistribution:
    """The Optuna distribution of a parameter."""
    if isinstance(parameter, Choice):
        return CategoricalDistribution([encode_choice(value) for value in parameter.values])
    if parameter.whole and (parameter.step is None or isinstance(parameter.step, int)):
        return IntDistribution(
            int(parameter.low), int(parameter.high), log=parameter.log, step=int(parameter.step or 1)
        )
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _import_function(path: str) -> Callable[[optuna.Trial], dict[str, Any]]:
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:
        raise ValueError(
            f"space must be a mapping or package.module:function, but {path!r} does not import: {error}"
        ) from error


def _creating(storage: str) -> Any:
    """Holds a lock beside a SQLite database while it may be created: two at once would break it."""
    path = sqlite_path(storage)
    import contextlib

    return file_lock(path.with_suffix(".lock")) if path else contextlib.nullcontext()


def sqlite_path(storage: str) -> Path | None:
    """The file of a SQLite URL, or None for other databases."""
    return Path(storage.removeprefix("sqlite:///")) if storage.startswith("sqlite:///") else None


def _engine_arguments(storage: str) -> dict[str, Any]:
    return {"connect_args": {"timeout": 60}} if sqlite_path(storage) else {}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:200] + "..."
