"""Plain functions as trials."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from studies.protocol.channel import Channel
from studies.protocol.event_log import NAME, EventReader, EventWriter
from studies.protocol.events import Event, Failed, Finished, Metrics, Report, Stopped
from studies.protocol.trial_spec import TrialSpec
from studies.trial import run as trial_run
from studies.trial.function import FunctionTrial
from studies.trial.preflight import preflight

SOURCE = """
import random, numpy, torch
def parabola(trial, x, y=1.0):
    return (x - 2) ** 2 + y
def loop(trial):
    for epoch in range(4):
        trial.log(loss=torch.tensor(1 / (epoch + 1)), other=epoch)
def draws(trial):
    trial.log({"python": random.random(), "numpy": numpy.random.rand(), "torch": torch.rand(1)})
    return trial.seed
def everything(trial, **params):
    (trial.artifacts / "note.txt").write_text(str(params))
    return params["x"]
def text(trial):
    return "good"
def careless(trial):
    for epoch in range(100):
        try:
            trial.log(loss=epoch)
        except Exception:
            pass
def bare():
    return 0
"""


class ScriptedChannel(Channel):
    """A channel to a driver that stops the trial at its `stop_at`-th report."""

    def __init__(self, log: EventWriter, stop_at: int | None = None, why: str = "pruned") -> None:
        super().__init__(log)
        self.left, self.why = stop_at, why

    def ask(self, event: Event) -> str | None:
        self.emit(event)
        self.left = None if self.left is None else self.left - 1
        if self.left == 0:
            self.stop_reason = self.why
        return self.stop_reason


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "objectives.py").write_text(SOURCE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("objectives", None)
    return tmp_path


def events_of(functions: Path, name: str, stop_at: int | None = None, **fields: Any) -> list[Event]:
    """The events of a trial of a function, but for its start."""
    params = fields.pop("params", {})
    spec = TrialSpec(
        run_id="aa01",
        experiment={"function": {"class_path": f"objectives.{name}", "init_args": params}, "trainer": {}},
        folder=str(functions / "trial"),
        search_path=[str(functions)],
        **{"seed": 3, "metric": "loss", "direction": "minimize", "pruning": True, **fields},
    )
    (functions / "trial").mkdir(exist_ok=True)
    log = EventWriter(functions / "trial" / NAME)
    assert trial_run.run(spec, ScriptedChannel(log, stop_at)) == 0
    log.close()
    kept = (Metrics, Report, Finished, Stopped, Failed)
    return [event for event in EventReader(functions / "trial" / NAME).read() if isinstance(event, kept)]


def test_a_returned_value_is_the_trials_value_and_is_logged(functions: Path) -> None:
    logged, report, ending = events_of(functions, "parabola", params={"x": 5}, metric="value")
    assert isinstance(logged, Metrics) and logged.values == {"value": 10.0}
    assert isinstance(report, Report) and report.value == 10.0
    assert isinstance(ending, Finished) and ending.value == 10.0 and ending.summary["best/value"] == 10.0


def test_a_loop_logs_a_curve_and_reports_its_metric(functions: Path) -> None:
    events = events_of(functions, "loop")
    curve = [(event.step, event.values) for event in events if isinstance(event, Metrics)]
    assert curve == [(step, {"loss": pytest.approx(1 / (step + 1)), "other": step}) for step in range(4)]
    assert [event.step for event in events if isinstance(event, Report)] == [0, 1, 2, 3]
    assert isinstance(events[-1], Finished) and events[-1].value is None, "the best report counts"


@pytest.mark.parametrize("name", ["loop", "careless"])
def test_a_pruned_function_stops_at_once_even_if_it_catches_every_exception(functions: Path, name: str) -> None:
    events = events_of(functions, name, stop_at=2)
    assert len([event for event in events if isinstance(event, Report)]) == 2
    assert isinstance(events[-1], Stopped) and events[-1].why == "pruned"


def test_all_generators_are_seeded_with_the_trials_seed(functions: Path) -> None:
    def drawn(seed: int) -> dict[str, float]:
        (functions / "trial" / NAME).unlink(missing_ok=True)
        return next(event.values for event in events_of(functions, "draws", seed=seed) if isinstance(event, Metrics))

    assert drawn(3) == drawn(3)
    assert not set(drawn(3).values()) & set(drawn(4).values())


def test_a_function_of_any_parameters_gets_them_all_and_writes_artifacts(functions: Path) -> None:
    ending = events_of(functions, "everything", params={"x": 2, "z": [1]})[-1]
    assert isinstance(ending, Finished) and ending.value == 2
    assert (functions / "trial/artifacts/note.txt").read_text() == "{'x': 2, 'z': [1]}"


def test_a_result_that_is_no_number_fails_the_trial_with_one_line(functions: Path) -> None:
    ending = events_of(functions, "text")[-1]
    assert (
        isinstance(ending, Failed) and ending.error == "ValueError: the returned value must be a number, but got 'good'"
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [("0.5", "loss must be a number"), (torch.ones(2), "loss must be a number"), (None, "loss must be a number")],
)
def test_what_is_logged_is_a_number(functions: Path, value: Any, said: str) -> None:
    spec = TrialSpec("aa01", {"function": {"class_path": "objectives.loop"}}, 0, str(functions / "trial"))
    with pytest.raises(ValueError, match=said):
        FunctionTrial(spec, Channel(None)).log(loss=value)


def test_steps_do_not_decrease(functions: Path) -> None:
    spec = TrialSpec("aa01", {"function": {"class_path": "objectives.loop"}}, 0, str(functions / "trial"))
    trial = FunctionTrial(spec, Channel(None))
    trial.log(loss=1, step=5)
    trial.log(accuracy=1, step=5)
    with pytest.raises(ValueError, match="step must not decrease, but got step=4 after 5"):
        trial.log(loss=1, step=4)


@pytest.mark.parametrize(
    ("name", "params", "space", "said"),
    [
        ("parabola", {}, ["function.x"], None),
        ("everything", {}, ["function.anything"], None),
        ("loop", {}, ["function.anything"], None),
        ("parabola", {"x": 1, "w": 1}, [], "unknown parameter function.w (allowed: function.x, function.y)"),
        ("parabola", {}, ["function.y"], "function: objectives.parabola needs a value of x"),
        ("parabolla", {}, [], "has no parabolla; did you mean objectives.parabola? (allowed"),
        ("bare", {}, [], "function: objectives.bare must take the trial as its first argument"),
        ("SOURCE", {}, [], "has no SOURCE"),
    ],
)
def test_the_preflight_check_reads_the_signature_and_does_not_call(
    functions: Path, name: str, params: dict[str, Any], space: list[str], said: str | None
) -> None:
    section = {"class_path": f"objectives.{name}", "init_args": params}
    payload = {"seed": 0, "threads": 1, "metric": "value", "search_path": [str(functions)]}
    payload |= {"experiment": json.dumps({"function": section}), "extremes": {item: [0, 1] for item in space}}
    report = preflight(payload)
    if said is None:
        assert report["metric"] == "value" and report["parameters"]["function"] == f"objectives.{name}"
    else:
        assert said in report["error"] and "\n" not in report["error"]
