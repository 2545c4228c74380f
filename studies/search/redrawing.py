"""Draws a study's trials again, told what it was told in the same order, and finds the first that differs.

The study is rebuilt in a database of its own by `Search`, the code that drew it, from the events of draw_order.py: so
the grid, enqueued trials, another study's results, changed spaces and methods are treated as they were.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from studies.config.search_space import parse_space
from studies.search.draw_order import DRAWN_BY, DRAWN_LATER, ENDED, events_of
from studies.search.storage import study_names
from studies.search.study import ENQUEUED, PRIOR, RETRY_OF, Search, broken_is_value_error, reports_of

FIXED = "fixed_params"  # Optuna's attribute of a trial with given values


@dataclass
class Redrawn:
    """What was drawn again.

    Attributes:
        drawn: number of trials that were drawn again with the same parameters.
        difference: of the first trial that differs: `number`, `parameter`, `recorded` and `redrawn`; or None.
        not_drawn: why some trials, or all, were not drawn again; one line each.
    """

    drawn: int = 0
    difference: dict[str, Any] | None = None
    not_drawn: list[str] = field(default_factory=list)


def redraw(
    storage: str, name: str, parts: Callable[[], Mapping[str, Any]] = dict, progress: Callable[[int], Any] = bool
) -> Redrawn:
    """Draws the trials of a study again, until one differs.

    Args:
        storage: database URL.
        parts: makes further arguments of `Search`, such as faster parts.
        progress: called with the number of trials drawn so far.

    Raises:
        ValueError: there is no such study, or somebody has changed what is stored.
    """
    study = Search.existing(storage, name)
    trials, rows = study.optuna_study.get_trials(deepcopy=False), study.trials()
    found = Redrawn()
    with broken_is_value_error(name):
        events, older = events_of(trials)
        drawn_by = study.optuna_study.user_attrs.get(DRAWN_BY, [])
        reason = _why_not(drawn_by, storage, older) if events else None
    if older:
        found.not_drawn.append(f"{_trials(len(older))} by an older version, which did not keep the order of results")
    if not events:
        return found
    if reason is not None:
        found.not_drawn.append(reason)
        return found
    with tempfile.TemporaryDirectory() as folder:
        rebuilt = _Rebuilt(f"sqlite:///{Path(folder, 'redrawn.db')}", storage, study, older, parts)
        for event in events:
            rebuilt.be_at(event.moment, drawn_by)
            if event.ended:
                rebuilt.end(event.trial)
                continue
            redrawn = rebuilt.open(event.trial, trials)
            recorded = rows[event.trial.number].params
            later = event.trial.system_attrs.get(DRAWN_LATER)
            if later is not None:
                names = ", ".join(map(str, later))
                found.not_drawn.append(f"trial {event.trial.number}: its driver died before it drew {names}")
                continue
            for parameter in [key for key in recorded if key not in redrawn or redrawn[key] != recorded[key]]:
                pair = {"recorded": recorded[parameter], "redrawn": redrawn.get(parameter)}
                found.difference = {"number": event.trial.number, "parameter": parameter, **pair}
                return found
            found.drawn += 1
            progress(found.drawn)
    return found


class _Rebuilt:
    """The study, as it was at some moment."""

    def __init__(
        self, url: str, storage: str, study: Search, older: list[FrozenTrial], parts: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._url, self._storage, self._study, self._older, self._parts = url, storage, study, older, parts
        self._search: Search | None = None
        self._since = -1
        self._live: set[int] = set()

    def be_at(self, moment: int, drawn_by: list[dict[str, Any]]) -> None:
        """Opens the study with the space, sampler, pruner and prior of a moment."""
        now = [entry for entry in drawn_by if entry["from"] <= moment][-1]
        if self._search is not None and now["from"] == self._since:
            return
        definition = {**self._study.definition, "space": now["space"]}
        space = parse_space(now["space"])
        first = self._search is None
        if self._search is not None:
            self._search.write()
        methods = now["sampler"], now["pruner"], now["reports"]
        self._search = Search(self._url, self._study.name, definition, space, *methods, **self._parts())
        if first:
            self._search.optuna_study.add_trials([_as_found(trial) for trial in self._older])
        self._since, self._live = now["from"], set()
        if now["from_study"] is not None:
            self._search.optuna_study.set_user_attr(PRIOR, now["from_study"])
            self._search.learn_from(Search.existing(self._storage, now["from_study"]["study"]))

    def open(self, trial: FrozenTrial, trials: list[FrozenTrial]) -> dict[str, Any]:
        """Opens a trial as it was opened; returns the parameters that are drawn now."""
        assert self._search is not None
        there = self._search.optuna_study
        for other in trials[len(there.get_trials(deepcopy=False)) : trial.number + 1]:
            given = {key: other.user_attrs[key] for key in (ENQUEUED, RETRY_OF) if key in other.user_attrs}
            if given:
                there.enqueue_trial(other.system_attrs.get(FIXED, {}), user_attrs=given)
            elif DRAWN_LATER in other.system_attrs:
                there.enqueue_trial(other.params)
            elif other.number < trial.number:
                raise ValueError(f"trial {other.number} was opened after trial {trial.number}")
        self._live.add(trial.number)
        waiting = len(there.get_trials(deepcopy=False)) > trial.number
        return (self._search.reopen(trial.number) if waiting else self._search.ask()).params

    def end(self, trial: FrozenTrial) -> None:
        """Tells a trial's reports and its result."""
        assert self._search is not None
        number = trial.number
        if number not in self._live:
            self._search.reopen(number)
        self._live.discard(number)
        metrics = list(self._search.objectives)
        reports = reports_of(trial) or {step: [value] for step, value in trial.intermediate_values.items()}
        for step, point in sorted(reports.items()):
            self._search.report(number, step, point[0], dict(zip(metrics[1:], point[1:], strict=False)))
        values = trial.values if trial.state == TrialState.COMPLETE else None
        further = dict(zip(metrics[1:], values[1:], strict=False)) if values else {}
        self._search.tell(number, trial.state.name, values[0] if values else None, further)


def _why_not(drawn_by: Any, storage: str, older: list[FrozenTrial]) -> str | None:
    """Why a study cannot be drawn again, or None if it can.

    Raises:
        ValueError: somebody has changed what is stored.
    """
    keys = {"from", "space", "sampler", "pruner", "reports", "from_study"}
    if not isinstance(drawn_by, list) or not all(isinstance(one, dict) and one.keys() == keys for one in drawn_by):
        raise ValueError(f"{DRAWN_BY} is {str(drawn_by)[:80]}")
    names = study_names(storage)
    if [trial.number for trial in older] != list(range(len(older))):
        return "trials of an older version are among those of this one"
    for one in drawn_by:
        prior = one["from_study"]
        if isinstance(one["space"], str):
            return f"its space is a function, {one['space']}, which is not called"
        if prior is not None and prior["study"] not in names:
            return f"study {prior['study']}, from whose results its sampler has learned, is gone"
        if one["pruner"] == "hyperband" and one["reports"] is None:
            return "hyperband's brackets depend on when it first saw a whole trial, as trainer.max_epochs is not given"
        if older and one["space"] != drawn_by[0]["space"]:
            return "its space has changed since trials were drawn by an older version"
    return None


def _as_found(trial: FrozenTrial) -> FrozenTrial:
    """A trial of an older version as this version found it: running, if this one ended it."""
    if ENDED not in trial.system_attrs:
        return trial
    trial = copy.copy(trial)
    trial.state, trial.values, trial.datetime_complete = TrialState.RUNNING, None, None
    return trial


def _trials(count: int) -> str:
    return f"{count} {'trial was' if count == 1 else 'trials were'} drawn"


def lines_of(name: str, found: Redrawn) -> Iterator[str]:
    """What was found, as text."""
    if found.difference is not None:
        one = found.difference
        yield (
            f"study {name}: trial {one['number']} is not drawn again: {one['parameter']} was {one['recorded']!r}, "
            f"but is now {one['redrawn']!r}; {found.drawn} before it are"
        )
    elif found.drawn:
        yield f"study {name}: {found.drawn} {'trial is' if found.drawn == 1 else 'trials are'} drawn again, the same"
    else:
        yield f"study {name}: no trial is drawn again"
    yield from (f"not drawn again: {line}" for line in found.not_drawn)
