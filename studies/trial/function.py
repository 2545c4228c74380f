"""Runs a plain Python function as a trial: an objective f(trial) -> value, or a training loop of one's own.

The function runs where a module would train: in a trial process, seeded, with the same event log, verdicts and
tracking. What Lightning does for a module is up to the function: checkpoints, devices, validation.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from studies.common.class_paths import import_class
from studies.common.objective import VALUE
from studies.common.search_path import use
from studies.common.suggestions import did_you_mean
from studies.config.parameters import flat_parameters
from studies.protocol.channel import Channel
from studies.protocol.events import Event, Finished, Metrics, Report, Stopped
from studies.protocol.trial_spec import TrialSpec
from studies.trial.surroundings import started_on
from studies.trial.trainer import forget_absent_gpus, seed_and_threads


class TrialStopped(BaseException):
    """Ends the function because its trial was pruned or interrupted. Not an Exception, which loops may catch."""


class FunctionTrial:
    """What a function gets as its argument.

    Attributes:
        params: its parameters: fixed ones, and sampled ones, by name.
        seed: of this trial. The generators of Python, NumPy and PyTorch are seeded with it.
        number: of the trial in its study, from 0.
        folder: kept with the run, also over an interruption: for the function's own checkpoints.
        artifacts: files written here are artifacts of the run in MLflow.
    """

    def __init__(self, spec: TrialSpec, channel: Channel) -> None:
        self.params: dict[str, Any] = dict(spec.experiment["function"].get("init_args") or {})
        self.seed = spec.seed
        self.number = spec.number
        self.folder = Path(spec.folder)
        self.artifacts = self.folder / "artifacts"
        self.artifacts.mkdir(parents=True, exist_ok=True)
        self._spec = spec
        self._channel = channel
        self._next = 0

    def log(self, values: Mapping[str, Any] | None = None, *, step: int | None = None, **more: Any) -> None:
        """Logs values, usually once per epoch. A value of the study's metric is also reported to its pruner.

        Args:
            values: metric -> number, or a tensor or array of one.
            step: from 0, never decreasing; None: one more than the last. A function that continues from its own
                checkpoint has to give it, so that the curve continues.
            more: further values; log(loss=0.3).

        Raises:
            TrialStopped: the trial is to stop: let it pass.
            ValueError: a value is no number, or the step decreases.
        """
        step = self._next if step is None else step
        if step < self._next - 1:
            raise ValueError(f"step must not decrease, but got {step=} after {self._next - 1}")
        self._next = step + 1
        numbers = {name: number(value, name) for name, value in {**(values or {}), **more}.items()}
        self._channel.emit(Metrics(step, step, numbers, done=step, batch=step))
        if self._spec.metric in numbers:
            self._report(step, numbers[self._spec.metric])
        if self._channel.stop_reason is not None:
            raise TrialStopped(self._channel.stop_reason)

    def _report(self, step: int, value: float) -> None:
        report = Report(step, step, value)
        if self._spec.pruning:
            self._channel.ask(report)
        else:
            self._channel.emit(report)

    def ended(self, result: Any) -> float | None:
        """The trial's value: what the function returned, which is logged, too; None: the best that it logged."""
        if result is None:
            return None
        value, step = number(result, "the returned value"), max(0, self._next - 1)
        self._channel.emit(Metrics(step, step, {self._spec.metric or VALUE: value}, done=step, batch=self._next))
        if self._spec.metric is not None:
            self._channel.emit(Report(self._next, step, value))
        return value


def run_function(spec: TrialSpec, channel: Channel) -> Event:
    """Runs a trial's function; its last event. An interrupted one starts again, with its folder as it left it."""
    use(spec.search_path)
    forget_absent_gpus()
    seed_and_threads(spec)
    function = import_class(spec.experiment["function"]["class_path"])
    trial = FunctionTrial(spec, channel)
    channel.emit(started_on(torch.device("cuda" if torch.cuda.is_available() else "cpu")))
    began = time.perf_counter()
    try:
        value = trial.ended(function(trial, **_named_arguments(function, trial.params)))
    except TrialStopped:
        return Stopped(str(channel.stop_reason), {"fit_seconds": time.perf_counter() - began})
    summary = {"fit_seconds": time.perf_counter() - began}
    if value is not None:
        summary[f"best/{spec.metric or VALUE}"] = value
    return Finished(summary, value)


def number(value: Any, what: str) -> float:
    """A number, or a tensor or array of one, as a float.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, str | bytes) or (hasattr(value, "numel") and value.numel() != 1):
        raise ValueError(f"{what} must be a number, but got {value!r:.80}")
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be a number, but got {value!r:.80}") from error


def preflight_function(sections: dict[str, Any], metric: str | None, extremes: dict[str, list[Any]]) -> dict[str, Any]:
    """What the preflight check reports of a function, which is not called: it may take hours.

    Raises:
        ValueError: in one line: it cannot be imported or called, or a parameter does not fit its signature.
    """
    section = sections["function"]
    try:
        function: Any = import_class(section["class_path"])
    except ValueError as error:
        raise ValueError(f"function: {error}") from error
    if not callable(function):
        raise ValueError(f"function: class_path={section['class_path']!r} is not a function")
    given = {*(section.get("init_args") or {}), *(name.partition(".")[2] for name in extremes)}
    _check_signature(function, section["class_path"], given)
    return {
        "parameters": flat_parameters({**sections, "trainer": {}}),
        "metrics": [metric or VALUE],
        "metric": metric,
        "notes": [],
        "gpus": torch.cuda.device_count(),
        "data": {"splits": {}, "overlap": []},
    }


def _check_signature(function: Callable[..., Any], path: str, given: set[str]) -> None:
    """Checks that a function takes the trial, and by name what it is given, if it takes anything by name."""
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        raise ValueError(f"function: {path} must take the trial as its first argument")
    named = {item.name: item for item in parameters[1:] if item.kind is not item.VAR_KEYWORD}
    if named and len(named) == len(parameters) - 1:
        for name in sorted(given - set(named)):
            raise ValueError(f"unknown parameter function.{name}{did_you_mean(name, named, 'function.')}")
    for name, item in named.items():
        if item.default is item.empty and name not in given:
            raise ValueError(f"function: {path} needs a value of {name}")


def _named_arguments(function: Callable[..., Any], params: dict[str, Any]) -> dict[str, Any]:
    """The parameters that a function takes by name, besides the trial."""
    _, *further = inspect.signature(function).parameters.values()
    if any(item.kind is item.VAR_KEYWORD for item in further):
        return params
    return {item.name: params[item.name] for item in further if item.name in params}
