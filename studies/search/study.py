"""One Optuna study, used by ask and tell.

A study has one writer, the driver, so trials are neither lost nor drawn twice.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from studies.common.errors import in_one_line, is_transient
from studies.common.objective import rank_key
from studies.common.sources import changed_since, is_elsewhere
from studies.common.suggestions import did_you_mean
from studies.config.search_space import Choice, Space, decode_choice, encode_choice, grid_of, parse_space
from studies.search.samplers import MakeSampler, derive_seed, distribution_of, make_pruner, make_sampler, suggest
from studies.search.storage import Storage, open_study, study_attributes, study_names

DEFINITION = "harness.definition"  # study attribute: settings that must not change when a study is resumed
ORIGIN = "harness.origin"  # study attribute: path of its experiment file, and digests of the user's code
RUN = "harness.run_id"  # trial attribute: the MLflow run
REBOUND = "harness.run_id."  # study attribute, + trial number: the MLflow run that replaced a closed trial's run
RETRY_OF = "harness.retry_of"  # trial attribute: the failed trial that this one retries
EXTENDED = "harness.extended."  # study attribute, + trial number: the trial's extension
LARGEST = 1e100  # largest value whose variance can be computed
FANOVA_TRIALS = 1000  # fANOVA's time is quadratic: 10 s for 1000, over 6 minutes for 10,000
STATES = {"COMPLETE": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED, "FAIL": TrialState.FAIL}


@dataclass
class TrialRow:
    """A trial, as shown on the leaderboard.

    Attributes:
        state: COMPLETE, PRUNED, FAIL, RUNNING or WAITING.
        retry_of: the failed trial that this one retries, or None.
        extension: if the trial is or was extended: total `epochs`, whether it is `done` and, once it has a result,
            that `state` and `value`; else {}.
    """

    number: int
    state: str
    value: float | None
    params: dict[str, Any] = field(default_factory=dict)
    run_id: str | None = None
    seconds: float | None = None
    retry_of: int | None = None
    extension: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("number", "state", "value", "params", "run_id")}


class _AtOnce:
    """The writer for Optuna's own storages, which write everything at once."""

    def persist(self, trial_id: int) -> None: ...

    def write(self) -> None: ...


class Search:
    """One Optuna study.

    Args:
        storage: database URL, e.g. "sqlite:////home/me/mlruns/optuna.db".
        name: name of the study, which is created if missing, else resumed.
        definition: JSON; identifies the study (experiment, space, metric, direction, seed).
        space: the search space, or "package.module:function", which takes an Optuna trial and returns
            dotted parameter name -> value.
        sampler: random | grid | tpe | gp | cmaes.
        pruner: none | median | hyperband | asha.
        reports: see make_pruner.
        writer: creates a storage that wraps the database; see studies/acceleration/optuna/.
        samplers: name -> factory that replaces Optuna's sampler.
        prepare_sampler: called with each trial's sampler before it draws.

    Raises:
        ValueError: a study of that name has another definition, or the space's function cannot be imported.
    """

    def __init__(
        self,
        storage: str,
        name: str,
        definition: dict[str, Any],
        space: Space | str,
        sampler: str | dict[str, Any],
        pruner: str | dict[str, Any],
        reports: int | None,
        writer: Storage | None = None,
        samplers: Mapping[str, MakeSampler] | None = None,
        prepare_sampler: Callable[[optuna.samplers.BaseSampler], None] = lambda sampler: None,
    ) -> None:
        self.name = name
        self._samplers, self._prepare_sampler = samplers, prepare_sampler
        self.direction: str = definition["direction"]
        self._seed: int = definition["seed"]
        self._space = space
        self._draws = True  # whether trials are asked for; see existing
        self._sampler = sampler
        self._grid = grid_of(space, self._seed) if sampler == "grid" and not isinstance(space, str) else None
        self._study = open_study(storage, name, self.direction, make_pruner(pruner, reports), writer)
        self._storage = self._study._storage
        self._writer: Any = self._storage if writer else _AtOnce()
        self._define(definition)
        self._live: dict[int, optuna.Trial] = {}
        self._reported: dict[int, set[int]] = {}  # trial -> steps

    @classmethod
    def existing(cls, storage: str, name: str) -> Search:
        """Opens an existing study by its stored definition, for inspection or repair.

        Raises:
            ValueError: it does not exist, or was not created by this harness, or somebody has changed what is stored.
        """
        known = study_names(storage)
        if name not in known:
            raise ValueError(f"unknown study {name}{did_you_mean(name, known)}")
        with _broken_is_value_error(name):
            attributes = study_attributes(storage, name)
            if DEFINITION not in attributes:
                raise NotOurs(f"study {name} was not created by this harness: it has no definition")
            definition = attributes[DEFINITION]
            written = definition["space"]
            space = written if isinstance(written, str) else parse_space(written)
            found = cls(storage, name, definition, space, "random", "none", None)
            found._draws = False  # a database from elsewhere may name any function: it is not called
            found.trials()
            return found

    @property
    def definition(self) -> dict[str, Any]:
        """The study's stored definition."""
        return dict(self._study.user_attrs[DEFINITION])

    def _define(self, definition: dict[str, Any]) -> None:
        wanted = json.loads(json.dumps(definition))
        known = self._study.user_attrs.get(DEFINITION)
        if known is None:
            self._study.set_user_attr(DEFINITION, wanted)
            return
        for key in wanted:
            if wanted[key] != known.get(key):
                raise ValueError(
                    f"study {self.name} exists with a different {key}: it has {_short(known.get(key))}, but got "
                    f"{_short(wanted[key])}; give another --study-name"
                )

    def came_from(self, origin: dict[str, Any], state: Path) -> str | None:
        """Stores the location of the study's experiment and digests of its code; see sources.origin_of.

        Returns:
            A line for the user if the code has changed since the last start, else None.

        Raises:
            ValueError: the study belongs to another folder with an identical experiment file but different code.
        """
        before = self._study.user_attrs.get(ORIGIN)
        changed = changed_since(before, origin) if before else []
        other = is_elsewhere(before, origin, state) if before and changed else None
        if other is not None:
            raise ValueError(
                f"study {self.name} belongs to {other}, with a different {', '.join(changed)} than {origin['file']}; "
                "give another --study-name"
            )
        if before != origin:
            self._study.set_user_attr(ORIGIN, origin)
        if changed:
            return f"resuming study {self.name} with changed code: {', '.join(changed)}"
        return None

    @property
    def points(self) -> int | None:
        """The number of possible trials: the size of the grid, else None."""
        return None if self._grid is None else len(self._grid)

    def ask(self) -> TrialRow:
        """Opens the next trial and draws its parameters."""
        number = len(self._study.get_trials(deepcopy=False))
        if self._grid is not None and not self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._study.enqueue_trial({name: encode_choice(value) for name, value in self._grid[number].items()})
        self._study.sampler = self._sampler_for(number)
        trial = self._study.ask()
        params = self._suggest(trial)
        self._writer.persist(trial._trial_id)
        self._live[trial.number], self._reported[trial.number] = trial, set()
        return TrialRow(trial.number, "RUNNING", None, params)

    def _sampler_for(self, number: int) -> optuna.samplers.BaseSampler:
        sampler = make_sampler(self._sampler, derive_seed(self._seed, number, "sampler"), self._samplers)
        self._prepare_sampler(sampler)
        return sampler

    def reopen(self, number: int) -> TrialRow:
        """Resumes a trial that a previous driver left RUNNING, with its parameters; missing ones are drawn."""
        frozen = self._study.get_trials(deepcopy=False)[number]
        if frozen.state == TrialState.WAITING:
            self._storage.set_trial_state_values(frozen._trial_id, TrialState.RUNNING)
        self._study.sampler = self._sampler_for(number)
        trial = optuna.trial.Trial(self._study, frozen._trial_id)
        self._live[number], self._reported[number] = trial, set(frozen.intermediate_values)
        attributes = frozen.user_attrs
        run_id = self._study.user_attrs.get(f"{REBOUND}{number}", attributes.get(RUN))
        return TrialRow(number, "RUNNING", None, self._suggest(trial), run_id, retry_of=attributes.get(RETRY_OF))

    def retry_failed(self) -> list[int]:
        """Enqueues a retry of each failed trial that has none yet, with its parameters; returns the new numbers."""
        rows = self._study.get_trials(deepcopy=False)
        again = {trial.user_attrs.get(RETRY_OF) for trial in rows}
        failed = [trial for trial in rows if trial.state == TrialState.FAIL and trial.number not in again]
        for trial in failed:
            self._study.enqueue_trial(trial.params, user_attrs={RETRY_OF: trial.number})
        return list(range(len(rows), len(rows) + len(failed)))

    def extend(self, number: int, extension: dict[str, Any]) -> None:
        """Stores the extension of a closed trial; see TrialRow."""
        self._study.set_user_attr(f"{EXTENDED}{number}", extension)

    def _suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        if not self._draws:
            return {name: self._decoded(name, value) for name, value in trial.params.items()}
        if isinstance(self._space, str):
            return dict(_import_function(self._space)(trial))
        params = {}
        for name, parameter in self._space.items():
            value = suggest(trial, name, distribution_of(parameter))
            params[name] = decode_choice(parameter, value) if isinstance(parameter, Choice) else value
        return params

    def bind(self, number: int, run_id: str) -> None:
        """Stores the MLflow run of a trial."""
        self._live[number].set_user_attr(RUN, run_id)

    def rebind(self, number: int, run_id: str) -> None:
        """Stores that a trial's MLflow run was recreated, as a study attribute: Optuna cannot change closed trials."""
        self._study.set_user_attr(f"{REBOUND}{number}", run_id)

    def report(self, number: int, step: int, value: float) -> bool:
        """Stores a value of the metric; returns whether to prune the trial.

        A step that was reported before is ignored: a resumed trial may repeat reports.

        Args:
            step: 1-based index of the report.
        """
        trial = self._live[number]
        if value != value:
            return False
        if step not in self._reported[number]:
            trial.report(value, step)
            self._reported[number].add(step)
        with np.errstate(all="ignore"):  # percentiles between infinities warn
            return trial.should_prune()

    def write(self) -> None:
        """Writes buffered data of running trials: run ids and reports."""
        self._writer.write()

    def tell(self, number: int, state: str, value: float | None) -> None:
        """Closes a trial: COMPLETE with its value, PRUNED with its value so far, or FAIL."""
        trial = self._live.pop(number)
        if state == "COMPLETE" and (value is None or value != value):
            state = "FAIL"
        # A pruned trial keeps its last report; Optuna accepts no value with that state.
        self._study.tell(trial, value if state == "COMPLETE" else None, state=STATES[state])

    def trials(self) -> list[TrialRow]:
        """All trials by number. The value of a pruned trial is its last report."""
        rows = []
        study_attributes = self._study.user_attrs
        for trial in self._study.get_trials(deepcopy=False):
            params = {name: self._decoded(name, value) for name, value in trial.params.items()}
            seconds = trial.duration.total_seconds() if trial.duration else None
            extension = study_attributes.get(f"{EXTENDED}{trial.number}", {})
            state, value = trial.state.name, trial.value
            if extension:
                _check_extension(extension)
            if "state" in extension:
                state, value = extension["state"], extension["value"]
            run_id = study_attributes.get(f"{REBOUND}{trial.number}", trial.user_attrs.get(RUN))
            if not isinstance(run_id, str | None):
                raise ValueError(f"trial {trial.number} has a run id that is no text")
            retry_of = trial.user_attrs.get(RETRY_OF)
            rows.append(TrialRow(trial.number, state, value, params, run_id, seconds, retry_of, extension))
        return rows

    def _decoded(self, name: str, value: Any) -> Any:
        parameter = self._space.get(name) if not isinstance(self._space, str) else None
        return decode_choice(parameter, value) if isinstance(parameter, Choice) else value

    def importances(self) -> dict[str, float]:
        """How much of the metric's variance each parameter explains (fANOVA), or {} with fewer than 4 complete trials.

        Of more than FANOVA_TRIALS complete trials, a random sample of that size is used. Infinite or nearly infinite
        values have no variance and are left out.
        """
        complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        looked_at = [trial for trial in complete if trial.value is not None and abs(trial.value) < LARGEST]
        if len(looked_at) < 4 or len({trial.value for trial in looked_at}) < 2:
            return {}
        study = self._study
        if len(looked_at) > FANOVA_TRIALS:
            looked_at = random.Random(0).sample(looked_at, FANOVA_TRIALS)
        if len(looked_at) < len(complete):
            study = optuna.create_study(direction=self._study.direction)  # in memory
            study.add_trials(looked_at)
        try:
            return optuna.importance.get_param_importances(study, evaluator=load_importances()(seed=0))
        except RuntimeError:  # raised if each tree has only seen equal values
            return {}


class NotOurs(ValueError):
    """A study of another program in the same database."""


@contextlib.contextmanager
def _broken_is_value_error(name: str) -> Iterator[None]:
    """Turns whatever a study that somebody has changed raises into a ValueError of one line that names it."""
    try:
        yield
    except (NotOurs, OSError):
        raise
    except Exception as error:  # the values may have any type; Optuna parses them as JSON
        if is_transient(error):
            raise
        raise ValueError(f"study {name} cannot be read: {in_one_line(error)[:200]}") from error


def _check_extension(extension: Any) -> None:
    epochs, done = extension["epochs"], extension["done"]
    known = True
    if "state" in extension:
        known = extension["state"] in STATES and isinstance(extension["value"], float | int | None)
    if type(epochs) is not int or type(done) is not bool or not known:
        raise ValueError(f"{EXTENDED}N is {str(extension)[:80]}")


def load_importances() -> Any:
    """Imports Optuna's fANOVA and with it scikit-learn, which takes a second."""
    return optuna.importance.FanovaImportanceEvaluator


def check_space(space: Space | str, sampler: str | dict[str, Any], pruner: str | dict[str, Any] = "none") -> None:
    """Checks, before anything is created, that the sampler supports the space and that sampler and pruner are valid.

    Raises:
        ValueError: a function or class cannot be imported, or a grid is infinite.
    """
    if isinstance(sampler, dict):
        make_sampler(sampler, 0)
    if isinstance(pruner, dict):
        make_pruner(pruner, None)
    if isinstance(space, str):
        _import_function(space)
        if sampler == "grid":
            raise ValueError("sampler must not be grid if space is a function: it has no list of points")
    elif sampler == "grid":
        grid_of(space, 0)


def best_of(rows: list[TrialRow], direction: str) -> TrialRow | None:
    """The best complete trial; ties go to the earlier one."""
    complete = [row for row in rows if row.state == "COMPLETE" and row.value is not None]
    return min(complete, key=lambda row: rank_key(row.value or 0.0, row.number, direction), default=None)


def _import_function(path: str) -> Callable[[optuna.Trial], dict[str, Any]]:
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:
        raise ValueError(
            f"space must be a mapping or package.module:function, but {path!r} does not import: {error}"
        ) from error


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:200] + "..."
