"""One Optuna study, used by ask and tell.

A study has one writer, the driver, so trials are neither lost nor drawn twice.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from studies.common.data_changes import data_changed
from studies.common.errors import in_one_line, is_transient
from studies.common.objective import better
from studies.common.sources import changed_since, is_elsewhere
from studies.common.suggestions import did_you_mean
from studies.config.search_space import Choice, Space, decode_choice, encode_choice, grid_of, parse_space
from studies.search.draw_order import DRAWN_BY, DRAWN_LATER, ENDED, OPENED, next_moment
from studies.search.prior import Prior, prior_trials
from studies.search.pruning import ParetoPruner
from studies.search.rewriting import rewrite
from studies.search.samplers import (
    MakeSampler,
    check_several,
    derive_seed,
    distribution_of,
    make_pruner,
    make_sampler,
    suggest,
)
from studies.search.space_changes import space_changes
from studies.search.storage import Storage, database, open_study, study_attributes, study_names
from studies.search.trial_row import TrialRow

DEFINITION = "harness.definition"  # study attribute: settings that must not change when a study is resumed
HISTORY = "harness.history"  # study attribute: what was changed about it, and when
DATA = "harness.data"  # study attribute: fingerprints of its data, split -> digest
ORIGIN = "harness.origin"  # study attribute: path of its experiment file, and digests of the user's code
RUN = "harness.run_id"  # trial attribute: the MLflow run
REBOUND = "harness.run_id."  # study attribute, + trial number: the MLflow run that replaced a closed trial's run
RETRY_OF = "harness.retry_of"  # trial attribute: the failed trial that this one retries
REPORT = "harness.report."  # trial attribute, + step: values of all objectives; Optuna stores reports of one only
NOTES = "harness.pruner"  # trial attribute: what the pruner noted about a trial of several objectives
METHOD = "harness.method"  # study attribute: the sampler and the pruner of its last start
ENQUEUED = "harness.enqueued"  # trial attribute: the values that the user gave it
PRIOR = "harness.from_study"  # study attribute: the study whose results its sampler learns from, and their numbers
EXTENDED = "harness.extended."  # study attribute, + trial number: the trial's extension
LARGEST = 1e100  # largest value whose variance can be computed
FANOVA_TRIALS = 1000  # fANOVA's time is quadratic: 10 s for 1000, over 6 minutes for 10,000
STATES = {"COMPLETE": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED, "FAIL": TrialState.FAIL}


class _AtOnce:
    """The writer for Optuna's own storages, which write everything at once."""

    def persist(self, trial_id: int) -> None: ...

    def write(self) -> None: ...


class Search:
    """One Optuna study.

    Args:
        storage: database URL, e.g. "sqlite:////home/me/mlruns/optuna.db".
        name: name of the study, which is created if missing, else resumed.
        definition: JSON; identifies the study (experiment, space, metric, direction, seed, and `further` objectives, if
            any: metric -> direction).
        space: the search space, or "package.module:function", which takes an Optuna trial and returns
            dotted parameter name -> value.
        sampler: random | grid | tpe | gp | cmaes.
        pruner: none | median | hyperband | asha.
        reports: see make_pruner.
        writer: creates a storage that wraps the database; see studies/acceleration/optuna/.
        samplers: name -> factory that replaces Optuna's sampler.
        prepare_sampler: called with each trial's sampler before it draws.
        create: create the study and its database if missing; if False, opening it writes nothing.

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
        create: bool = True,
    ) -> None:
        self.name, self._url = name, storage
        self._samplers, self._prepare_sampler = samplers, prepare_sampler
        self.objectives: dict[str, str] = {definition["metric"]: definition["direction"]}
        self.objectives |= definition.get("further", {})
        self._seed: int = definition["seed"]
        self._space = space
        self._draws = True  # whether trials are asked for; see existing
        self._sampler = sampler
        self._grid = grid_of(space, self._seed) if sampler == "grid" and not isinstance(space, str) else None
        self._tried: set[str] | None = None  # the points of the grid that trials have, once known
        several = len(self.objectives) > 1
        judge = make_pruner("none" if several else pruner, reports)

        def opened() -> optuna.Study:
            if create:
                return open_study(storage, name, list(self.objectives.values()), judge, writer)
            return optuna.load_study(study_name=name, storage=database(storage), pruner=judge)

        self._study = opened()
        self.changes: list[str] = []  # of the space, since the last start
        if self._define(definition, storage):
            self._study = opened()
        self._storage = self._study._storage
        self._writer: Any = self._storage if writer else _AtOnce()
        self._moment = next_moment(self._study.get_trials(deepcopy=False))
        self._drawn_by = {"sampler": sampler, "pruner": pruner, "reports": reports}
        self._noted_drawn_by = False
        self._live: dict[int, optuna.Trial] = {}
        self._reported: dict[int, set[int]] = {}  # trial -> steps
        self._pareto = ParetoPruner(name, self.objectives, make_pruner(pruner, reports)) if several else None
        if self._pareto is not None:
            for ended in self._study.get_trials(deepcopy=False, states=tuple(STATES.values())):
                self._pareto.add_ended(ended.state, ended.values, reports_of(ended), ended.user_attrs.get(NOTES, {}))

        self._prior: Prior | None = None

    @classmethod
    def existing(cls, storage: str, name: str) -> Search:
        """Opens an existing study by its stored definition, for inspection or repair.

        Raises:
            ValueError: it does not exist, or was not created by this harness, or somebody has changed what is stored.
        """
        known = study_names(storage)
        if name not in known:
            raise ValueError(f"unknown study {name}{did_you_mean(name, known)}")
        with broken_is_value_error(name):
            attributes = study_attributes(storage, name)
            if DEFINITION not in attributes:
                raise NotOurs(f"study {name} was not created by this harness: it has no definition")
            definition = attributes[DEFINITION]
            written = definition["space"]
            space = written if isinstance(written, str) else parse_space(written)
            found = cls(storage, name, definition, space, "random", "none", None, create=False)
            found._draws = False  # a database from elsewhere may name any function: it is not called
            found.trials()
            return found

    @property
    def optuna_study(self) -> optuna.Study:
        """The study inside, for this package."""
        return self._study

    @property
    def definition(self) -> dict[str, Any]:
        """The study's stored definition."""
        return dict(self._study.user_attrs[DEFINITION])

    def _define(self, definition: dict[str, Any], storage: str) -> bool:
        """Stores the definition, or compares it; returns whether the study was rewritten for another space."""
        wanted = json.loads(json.dumps(definition))
        known = self._study.user_attrs.get(DEFINITION)
        if known is None:
            self._study.set_user_attr(DEFINITION, wanted)
            return False
        for key in {**wanted, **known}:
            if key != "space" and wanted.get(key) != known.get(key):
                raise ValueError(
                    f"study {self.name} exists with a different {key}: it has {_short(known.get(key))}, but got "
                    f"{_short(wanted.get(key))}; give another --study-name"
                )
        if wanted["space"] != known["space"]:
            self.changes = space_changes(self.name, known["space"], wanted["space"])
        if not self.changes or isinstance(self._space, str):
            return False
        distributions = {name: distribution_of(parameter) for name, parameter in self._space.items()}
        rewrite(storage, self.name, distributions, {DEFINITION: wanted, HISTORY: self._history(self.changes)})
        return True

    def _history(self, changes: list[str]) -> list[dict[str, Any]]:
        """The stored history with further changes."""
        before = self._study.user_attrs.get(HISTORY, [])
        now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        return [*(before if isinstance(before, list) else []), *({"utc": now, "change": change} for change in changes)]

    @property
    def history(self) -> list[str]:
        """What has been changed about the study, oldest first."""
        return [f"{entry['utc']} UTC: {entry['change']}" for entry in self._study.user_attrs.get(HISTORY, [])]

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
    def data(self) -> dict[str, str]:
        """The fingerprints of the data of the study's last start: split -> digest; {} if they are not known."""
        known = self._study.user_attrs.get(DATA)
        return known if isinstance(known, dict) else {}

    def trained_on(self, digests: dict[str, str]) -> str | None:
        """Stores the fingerprints of the study's data (split -> digest), and a change of them as history.

        Returns:
            A line for the user if the data have changed since the last start, else None.
        """
        before = self.data
        changed = data_changed(before, digests)
        if digests and {**before, **digests} != before:
            self._study.set_user_attr(DATA, {**before, **digests})
        if changed is not None:
            self._study.set_user_attr(HISTORY, self._history([changed]))
        return changed

    @property
    def points(self) -> int | None:
        """The number of possible trials, retries aside: the grid's points and others that were tried; else None."""
        if self._grid is None:
            return None
        return len(self._tried_points() | {_key(point) for point in self._grid})

    def _tried_points(self) -> set[str]:
        if self._tried is None:
            whole = len(self._space)  # a driver may have died between two draws
            self._tried = {_key(row.params) for row in self.trials() if len(row.params) == whole}
        return self._tried

    def ask(self) -> TrialRow:
        """Opens the next trial, of those that are enqueued first, and draws its parameters."""
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if waiting:
            return self.reopen(waiting[0].number)
        number = len(self._study.get_trials(deepcopy=False))
        if self._grid is not None:
            point = next((point for point in self._grid if _key(point) not in self._tried_points()), {})
            self._study.enqueue_trial({name: encode_choice(value) for name, value in point.items()})
        self._note_drawn_by()
        self._study.sampler = self._sampler_for(number)
        if self._prior is not None:
            counterpart = self._prior.ask(number, self._study.sampler)
            self._suggest(counterpart)
            self._study.enqueue_trial(counterpart.params)
        trial = self._study.ask()
        self._mark(trial._trial_id, OPENED)
        params = self._suggest(trial)
        if self._tried is not None:
            self._tried.add(_key(params))
        self._writer.persist(trial._trial_id)
        self._live[trial.number], self._reported[trial.number] = trial, set()
        if self._pareto is not None:
            self._pareto.open(trial.number, {})
        return TrialRow(trial.number, "RUNNING", None, params)

    def _mark(self, trial_id: int, event: str) -> None:
        """Stores when a trial is opened or ended, in the transaction of that event if the storage has them."""
        self._storage.set_trial_system_attr(trial_id, event, self._moment)
        self._moment += 1

    def _note_drawn_by(self) -> None:
        """Stores, before this process draws its first trial, what draws it, if that is not what drew the last one."""
        if self._noted_drawn_by:
            return
        told = self._study.user_attrs
        now = {
            "space": self.definition["space"],
            **self._drawn_by,
            "from_study": told.get(PRIOR) if self._prior else None,
        }
        now = json.loads(json.dumps(now))
        before = told.get(DRAWN_BY, [])
        last = {key: value for key, value in before[-1].items() if key != "from"} if before else None
        if now != last:
            self._study.set_user_attr(DRAWN_BY, [*before, {"from": self._moment, **now}])
        self._noted_drawn_by = True

    def _sampler_for(self, number: int) -> optuna.samplers.BaseSampler:
        sampler = make_sampler(self._sampler, derive_seed(self._seed, number, "sampler"), self._samplers)
        self._prepare_sampler(sampler)
        return sampler

    def use_method(self, sampler: str | dict[str, Any], pruner: str | dict[str, Any]) -> list[str]:
        """Stores the sampler and the pruner of this start; returns what differs from the last one, also as history."""
        now = json.loads(json.dumps({"sampler": sampler, "pruner": pruner}))
        before = self._study.user_attrs.get(METHOD)
        if now == before:
            return []
        known = before if isinstance(before, dict) else now  # of a study of an older version, nothing is known
        changes = [
            f"{kind} is {_method(now[kind])} instead of {_method(known.get(kind))}"
            for kind in now
            if now[kind] != known.get(kind)
        ]
        if changes:
            self._study.set_user_attr(HISTORY, self._history(changes))
        self._study.set_user_attr(METHOD, now)
        return changes

    def enqueue(self, trials: list[dict[str, Any]]) -> int:
        """Enqueues trials with given values, each once in a study's life; returns how many are new.

        Args:
            trials: parameter -> value, checked by enqueued.check_enqueued; the others are drawn.
        """
        known = {trial.user_attrs.get(ENQUEUED) for trial in self._study.get_trials(deepcopy=False)}
        new = {_key(values): values for values in trials if _key(values) not in known}
        for key, values in new.items():
            encoded = {name: encode_choice(value) for name, value in values.items()}
            self._study.enqueue_trial(encoded, user_attrs={ENQUEUED: key})
        return len(new)

    def learn_from(self, other: Search | None) -> str | None:
        """Lets the sampler learn from another study's results, also on later starts; they are no trials of this one.

        Args:
            other: None: the study that was given at an earlier start, if any.

        Returns:
            A line for the user, or None if there is no other study.
        """
        stored = self._study.user_attrs.get(PRIOR)
        known = _prior(stored) if stored is not None else None
        if other is None and known is None:
            return None
        name = other.name if other is not None else known[0] if known else ""
        if other is None and name not in study_names(self._url):
            return f"study {name}, from whose results the sampler has learned, is gone: it goes on without them"
        other = other or Search.existing(self._url, name)
        ended = other._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        # Those that were known at the first start, so that a restart draws the same.
        numbers = known[1] if known and known[0] == name else {trial.number for trial in ended}
        assert not isinstance(self._space, str)
        distributions = {name: distribution_of(parameter) for name, parameter in self._space.items()}
        trials = prior_trials((trial for trial in ended if trial.number in numbers), distributions)
        self._prior = Prior(self._study.directions, trials, self._study.get_trials(deepcopy=False))
        self._noted_drawn_by = False
        if known is None or known[0] != name:
            change = f"its sampler learns from {len(trials)} trials of study {name}"
            self._study.set_user_attr(PRIOR, {"study": name, "trials": sorted(numbers)})
            self._study.set_user_attr(HISTORY, self._history([change]))
        apart = len(numbers) - len(trials)
        left_out = f"; {apart} outside of this study's space are left out" if apart else ""
        return f"the sampler learns from {len(trials)} trials of study {name}{left_out}"

    def reopen(self, number: int) -> TrialRow:
        """Resumes a trial that a previous driver left RUNNING, with its parameters; missing ones are drawn."""
        frozen = self._study.get_trials(deepcopy=False)[number]
        if frozen.state == TrialState.WAITING:
            self._note_drawn_by()
            self._mark(frozen._trial_id, OPENED)
            self._storage.set_trial_state_values(frozen._trial_id, TrialState.RUNNING)
        elif self._draws and not isinstance(self._space, str) and self._space.keys() - frozen.params.keys():
            missing = sorted(self._space.keys() - frozen.params.keys())
            self._storage.set_trial_system_attr(frozen._trial_id, DRAWN_LATER, missing)
        self._study.sampler = self._sampler_for(number)
        trial = optuna.trial.Trial(self._study, frozen._trial_id)
        self._live[number], self._reported[number] = trial, {*frozen.intermediate_values, *reports_of(frozen)}
        if self._pareto is not None:
            self._pareto.open(number, reports_of(frozen))
        attributes = frozen.user_attrs
        run_id = self._study.user_attrs.get(f"{REBOUND}{number}", attributes.get(RUN))
        params = self._suggest(trial)
        if self._tried is not None:
            self._tried.add(_key(params))
        if self._prior is not None:
            self._prior.open(number, self._study.get_trials(deepcopy=False)[number])
        row = TrialRow(number, "RUNNING", None, params, run_id, retry_of=attributes.get(RETRY_OF))
        row.enqueued = ENQUEUED in attributes
        return row

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
        params, drawn = {}, trial.params
        for name, parameter in self._space.items():
            # What has been drawn stays, outside a range that was narrowed since, too.
            value = drawn[name] if name in drawn else suggest(trial, name, distribution_of(parameter))
            params[name] = decode_choice(parameter, value) if isinstance(parameter, Choice) else value
        return params

    def bind(self, number: int, run_id: str) -> None:
        """Stores the MLflow run of a trial."""
        self._live[number].set_user_attr(RUN, run_id)

    def rebind(self, number: int, run_id: str) -> None:
        """Stores that a trial's MLflow run was recreated, as a study attribute: Optuna cannot change closed trials."""
        self._study.set_user_attr(f"{REBOUND}{number}", run_id)

    def report(self, number: int, step: int, value: float, further: Mapping[str, float] | None = None) -> bool:
        """Stores a value of the metric, and of the further objectives; returns whether to prune the trial.

        A step that was reported before is ignored: a resumed trial may repeat reports.

        Args:
            step: 1-based index of the report.
        """
        trial = self._live[number]
        if value != value:
            return False
        if self._pareto is not None:
            point = self._point(value, further or {})
            if step not in self._reported[number]:
                trial.set_user_attr(f"{REPORT}{step}", point)
                self._reported[number].add(step)
            with np.errstate(all="ignore"):
                return self._pareto.report(number, step, point)
        if step not in self._reported[number]:
            trial.report(value, step)
            self._reported[number].add(step)
            if self._prior is not None:
                self._prior.report(number, step, value)
        with np.errstate(all="ignore"):  # percentiles between infinities warn
            return trial.should_prune()

    def write(self) -> None:
        """Writes buffered data of running trials: run ids and reports."""
        self._writer.write()

    def tell(self, number: int, state: str, value: float | None, further: Mapping[str, float] | None = None) -> None:
        """Closes a trial: COMPLETE with its values of all objectives, PRUNED with its values so far, or FAIL."""
        trial = self._live.pop(number)
        point = [math.nan] if value is None else self._point(value, further or {})
        if state == "COMPLETE" and any(value != value for value in point):
            state = "FAIL"
        values = point if state == "COMPLETE" else None
        if self._pareto is not None:
            trial.set_user_attr(NOTES, self._pareto.close(number, STATES[state], values))
        if self._prior is not None:
            self._prior.close(number, STATES[state], values)
        self._mark(trial._trial_id, ENDED)
        # A pruned trial keeps its reports; Optuna accepts no value with that state.
        self._study.tell(trial, values, state=STATES[state])

    def _point(self, value: float, further: Mapping[str, float]) -> list[float]:
        """The values of all objectives, in their order; NaN where there is none."""
        return [value, *(further.get(name, math.nan) for name in list(self.objectives)[1:])]

    def trials(self) -> list[TrialRow]:
        """All trials by number. The values of a pruned trial are those of its best report, as of a complete one."""
        rows = []
        study_attributes = self._study.user_attrs
        for trial in self._study.get_trials(deepcopy=False):
            params = {name: self._decoded(name, value) for name, value in trial.params.items()}
            seconds = trial.duration.total_seconds() if trial.duration else None
            extension = study_attributes.get(f"{EXTENDED}{trial.number}", {})
            state, values = trial.state.name, self._values(trial)
            value = values[0] if values else None
            further = dict(zip(list(self.objectives)[1:], values[1:] if values else (), strict=False))
            if extension:
                _check_extension(extension)
            if "state" in extension:
                state, value, further = extension["state"], extension["value"], extension.get("further", {})
            run_id = study_attributes.get(f"{REBOUND}{trial.number}", trial.user_attrs.get(RUN))
            if not isinstance(run_id, str | None):
                raise ValueError(f"trial {trial.number} has a run id that is no text")
            retry_of = trial.user_attrs.get(RETRY_OF)
            began = trial.datetime_start.timestamp() if trial.datetime_start else None
            row = TrialRow(trial.number, state, value, params, run_id, seconds, retry_of, extension, began)
            row.further = further
            if state == "PRUNED":
                row.last = self._last(trial)
            rows.append(row)
        return rows

    def _last(self, trial: optuna.trial.FrozenTrial) -> float | None:
        """The last report of the first objective."""
        reports = {step: point[0] for step, point in reports_of(trial).items()} or trial.intermediate_values
        return reports[max(reports)] if reports else None

    def _values(self, trial: optuna.trial.FrozenTrial) -> list[float] | None:
        """A trial's values of all objectives: of a pruned one those of its best report."""
        if trial.state != TrialState.PRUNED:
            return trial.values
        best: list[float] | None = None
        direction = next(iter(self.objectives.values()))
        reports = reports_of(trial) or {step: [value] for step, value in trial.intermediate_values.items()}
        for _, point in sorted(reports.items()):
            if better(point[0], None if best is None else best[0], direction):
                best = point
        return best or trial.values

    def _decoded(self, name: str, value: Any) -> Any:
        parameter = self._space.get(name) if not isinstance(self._space, str) else None
        return decode_choice(parameter, value) if isinstance(parameter, Choice) else value

    def importances(self, most: int | None = None) -> dict[str, float]:
        """How much of the first metric's variance each parameter explains, by fANOVA; {} of fewer than 4 trials.

        Infinite or nearly infinite values have no variance and are left out.

        Args:
            most: of more complete trials, a random sample of this size is used (default: FANOVA_TRIALS).
        """
        most = FANOVA_TRIALS if most is None else most
        complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        looked_at = [trial for trial in complete if trial.values and abs(trial.values[0]) < LARGEST]
        if len(looked_at) < 4 or len({trial.values[0] for trial in looked_at}) < 2:
            return {}
        study = self._study
        if len(looked_at) > most:
            looked_at = random.Random(0).sample(looked_at, most)
        if len(looked_at) < len(complete):
            study = optuna.create_study(directions=self._study.directions)  # in memory
            study.add_trials(looked_at)
        try:
            first = (lambda trial: trial.values[0]) if len(self.objectives) > 1 else None
            return optuna.importance.get_param_importances(study, evaluator=load_importances()(seed=0), target=first)
        except RuntimeError:  # raised if each tree has only seen equal values
            return {}


class NotOurs(ValueError):
    """A study of another program in the same database."""


@contextlib.contextmanager
def broken_is_value_error(name: str) -> Iterator[None]:
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
        known = known and all(isinstance(value, float | int) for value in extension.get("further", {}).values())
    if type(epochs) is not int or type(done) is not bool or not known:
        raise ValueError(f"{EXTENDED}N is {str(extension)[:80]}")


def reports_of(trial: optuna.trial.FrozenTrial) -> dict[int, list[float]]:
    """The reports of a trial of several objectives: step -> their values.

    Raises:
        ValueError: somebody has changed what is stored.
    """
    reports = {}
    for name, point in trial.user_attrs.items():
        if name.startswith(REPORT):
            if not isinstance(point, list) or not all(isinstance(value, float | int) for value in point):
                raise ValueError(f"{name} of trial {trial.number} is {str(point)[:80]}")
            reports[int(name.removeprefix(REPORT))] = point
    return reports


def load_importances() -> Any:
    """Imports Optuna's fANOVA and with it scikit-learn, which takes a second."""
    return optuna.importance.FanovaImportanceEvaluator


def check_space(
    space: Space | str, sampler: str | dict[str, Any], pruner: str | dict[str, Any] = "none", objectives: int = 1
) -> None:
    """Checks, before anything is created, that the sampler supports the space and that sampler and pruner are valid.

    Args:
        objectives: their number.

    Raises:
        ValueError: a function or class cannot be imported, a grid is infinite, or the sampler supports one objective.
    """
    if isinstance(sampler, dict):
        make_sampler(sampler, 0)
    if objectives > 1:
        check_several(sampler, objectives)
    if isinstance(pruner, dict):
        make_pruner(pruner, None)
    if isinstance(space, str):
        _import_function(space)
        if sampler == "grid":
            raise ValueError("sampler must not be grid if space is a function: it has no list of points")
    elif sampler == "grid":
        grid_of(space, 0)


def _import_function(path: str) -> Callable[[optuna.Trial], dict[str, Any]]:
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:
        raise ValueError(
            f"space must be a mapping or package.module:function, but {path!r} does not import: {error}"
        ) from error


def _method(named: Any) -> str:
    """A sampler or pruner as people write it: its name, or its class with the arguments."""
    if not isinstance(named, dict):
        return str(named)
    arguments = named.get("init_args")
    return f"{named.get('class_path')} {json.dumps(arguments)}" if arguments else str(named.get("class_path"))


def _prior(stored: Any) -> tuple[str, set[int]]:
    """The study and the numbers of the trials that a sampler learns from.

    Raises:
        ValueError: somebody has changed what is stored.
    """
    if isinstance(stored, dict):
        name, numbers = stored.get("study"), stored.get("trials")
        if isinstance(name, str) and isinstance(numbers, list) and all(isinstance(number, int) for number in numbers):
            return name, set(numbers)
    raise ValueError(f"{PRIOR} is {str(stored)[:80]}")


def _key(point: Mapping[str, Any]) -> str:
    """Identifies a point of the grid."""
    return json.dumps({name: encode_choice(value) for name, value in point.items()}, sort_keys=True)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:200] + "..."
