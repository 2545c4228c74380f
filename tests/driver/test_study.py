"""Which trials a study runs, in which order, with which seeds, and what Optuna is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import Calls, FakeSearch, Screen

from studies.config.search_plan import SearchPlan
from studies.driver.data import Data
from studies.driver.session import Options
from studies.driver.study import Study, StudySource
from studies.protocol.trial_spec import TrialSpec
from studies.search import TrialRow, derive_seed
from studies.tracking.trial_log import Ending


def source(folder: Path, rows: Sequence[TrialRow] = (), points: int | None = None, **options: Any) -> StudySource:
    """The source of a study of ten trials that has these."""
    session = SimpleNamespace(
        data=Data(),
        options=Options([], **{"trials": 10, **options}),
        display=Screen(),
        tracking=Calls(running=["run0", "run1", "run2", "other"], find_run=None),
        state_folder=SimpleNamespace(trial_folder=lambda run_id: folder / run_id),
        put_parameters=lambda *arguments: session.put.append(arguments),
        started=[],
        put=[],
        trusts=False,
        note=lambda **fields: session.noted.update(fields),
        noted={},
    )

    experiment = SimpleNamespace(
        name="toy", seed=7, with_params=lambda params: {"model": dict(params)}, search_path=["here"]
    )

    def start_run(*arguments: Any, adopted: str | None = None) -> tuple[str, Path]:
        session.started.append((*arguments, adopted))
        return adopted or f"new{len(session.started)}", folder

    session.start_run = start_run
    plan = SearchPlan("val/loss", "minimize", {}, pruner="median")
    study: Any = SimpleNamespace(
        session=session,
        plan=plan,
        search=FakeSearch(rows, points),
        experiment=experiment,
        name="s",
        parent="parent",
        provenance="provenance/01234567",
        experiment_id="1",
    )
    return StudySource(study)


def end(source: StudySource, *states: str) -> None:
    for state in states:
        source.ended(TrialSpec("r", {}, 0, "folder"), Ending(state, None, {}, 1.0))


def test_only_failures_in_a_row_end_a_study(tmp_path: Path) -> None:
    of_study = source(tmp_path, max_failures=2)
    for state in ("COMPLETE", "PRUNED"):
        end(of_study, "FAIL", state, "FAIL", state)
        assert not of_study.gave_up
    assert of_study.session.display.said == []
    end(of_study, "FAIL", "FAIL")
    assert of_study.gave_up and of_study.next() is None
    assert of_study.session.display.said == ["2 trials in a row have failed: the study ends (--max-failures)"]


def test_an_interrupted_trial_is_neither_told_nor_a_break_in_a_row_of_failures(tmp_path: Path) -> None:
    of_study = source(tmp_path, max_failures=2)
    end(of_study, "FAIL", "INTERRUPTED", "INTERRUPTED")
    assert not of_study.gave_up
    end(of_study, "FAIL")
    assert of_study.gave_up
    assert of_study.search.made == [("tell", 0, "FAIL", None, {})] * 2


def test_a_value_is_told_with_the_state(tmp_path: Path) -> None:
    of_study = source(tmp_path)
    size = {"parameters": 7.0}
    of_study.ended(TrialSpec("r", {}, 0, "folder", number=3), Ending("PRUNED", 0.5, {}, 1.0, further=size))
    assert of_study.search.made == [("tell", 3, "PRUNED", 0.5, size)]
    assert of_study.report(TrialSpec("r", {}, 0, "folder", number=3), 2, 0.5, {}) is False
    assert of_study.report(TrialSpec("r", {}, 0, "folder", number=3), 3, 0.25, size) is True
    of_study.write()
    assert of_study.search.made[1:] == [("report", 3, 2, 0.5, {}), ("report", 3, 3, 0.25, size), ("write",)]


def trial(number: int, state: str, run_id: str | None, value: float | None = None, **fields: Any) -> TrialRow:
    return TrialRow(number, state, value, {"model.learning_rate": number / 10}, run_id, **fields)


def test_trials_are_drawn_up_to_the_total(tmp_path: Path) -> None:
    of_study = source(tmp_path, trials=3)
    specs = []
    while (spec := of_study.next()) is not None:
        specs.append(spec)
    assert [spec.number for spec in specs] == [0, 1, 2] and of_study.session.display.total == 3
    assert of_study.session.noted == {"total": 3}, "for those who watch"
    assert of_study.session.display.said == [], "nothing was resumed"
    assert specs[1] == TrialSpec(
        run_id="new2",
        experiment={"model": {"model.learning_rate": 0.5}},
        seed=derive_seed(7, 1, "training"),
        folder=str(tmp_path / "new2"),
        study="s",
        number=1,
        params={"model.learning_rate": 0.5},
        metric="val/loss",
        direction="minimize",
        pruning=True,
        search_path=["here"],
        trusted=False,
        name="toy",
    )
    assert of_study.search.made == [("bind", 0, "new1"), ("bind", 1, "new2"), ("bind", 2, "new3")]
    experiment_id, name, _, seed, tags, params, adopted = of_study.session.started[1]
    assert (experiment_id, name, seed, adopted) == ("1", "trial 1", specs[1].seed, None)
    assert params == specs[1].params
    assert tags == {
        "harness.kind": "trial",
        "harness.study": "s",
        "harness.trial": "1",
        "mlflow.parentRunId": "parent",
        "harness.provenance": "provenance/01234567",
        "harness.trials_of": "s",
        "mlflow.source.name": "harness train --from s/1",
    }


def test_trials_left_running_come_first_and_in_their_own_runs(tmp_path: Path) -> None:
    rows = [
        trial(0, "COMPLETE", "run0", 0.5),
        trial(1, "RUNNING", "run1"),
        trial(2, "FAIL", "run2"),
        trial(3, "WAITING", None),
        trial(4, "PRUNED", "run4", 0.25),
    ]
    of_study = source(tmp_path, rows, trials=6)
    screen = of_study.session.display
    assert screen.said == ["resuming study s: 3 of 6 trials are done"]
    assert ("resumed", 3, 0.5, 0) in screen.calls
    numbers, runs = zip(*[(spec.number, spec.run_id) for spec in iter(of_study.next, None)], strict=True)
    assert numbers == (1, 3, 5) and runs == ("run1", "new1", "new2")
    assert of_study.search.made[:2] == [("reopen", 1), ("reopen", 3)]
    made = of_study.session.tracking.made
    assert ("reopen", "run1") in made and ("delete_tag", "run1", "harness.outcome") in made
    assert of_study.session.put == [("run1", rows[1].params, derive_seed(7, 1, "training"))]


def test_a_run_that_a_dead_driver_opened_but_did_not_bind_is_adopted(tmp_path: Path) -> None:
    of_study = source(tmp_path, [trial(0, "RUNNING", None)], trials=1)
    of_study.session.tracking = Calls(find_run="lost")
    spec = of_study.next()
    assert spec is not None and spec.run_id == "lost" and of_study.session.started[0][-1] == "lost"
    assert of_study.search.made == [("reopen", 0), ("bind", 0, "lost")]
    tags = {"harness.kind": "trial", "harness.study": "s", "harness.trial": "0"}
    made = of_study.session.tracking.made
    assert made[0][:3] == ("find_run", {**tags, "mlflow.parentRunId": "parent"}, "1") or made[0][2] == "1"
    assert ("delete_tag", "lost", "harness.outcome") in made


def test_new_trials_are_not_looked_for_in_mlflow(tmp_path: Path) -> None:
    of_study = source(tmp_path, trials=1)
    of_study.session.tracking = Calls(find_run="somebody else's")
    spec = of_study.next()
    assert spec is not None and spec.run_id == "new1"
    assert of_study.session.tracking.made == []


def test_a_retry_has_the_seed_of_what_it_retries_and_does_not_count(tmp_path: Path) -> None:
    rows = [trial(0, "FAIL", "run0"), trial(1, "WAITING", None, retry_of=0)]
    of_study = source(tmp_path, rows, trials=1, retry_failed=True)
    assert of_study.search.made[0] == ("retry_failed",)
    spec = of_study.next()
    assert spec is not None and (spec.number, spec.seed) == (1, derive_seed(7, 0, "training"))
    assert of_study.session.started[0][4]["harness.retry_of"] == "0"
    assert of_study.total == of_study.session.display.total == 2 and of_study.next() is None


def test_failed_trials_are_retried_only_if_asked_for(tmp_path: Path) -> None:
    assert ("retry_failed",) not in source(tmp_path, [trial(0, "FAIL", "run0")]).search.made


@pytest.mark.parametrize(("points", "total"), [(4, 4), (10, 10), (12, 10)])
def test_a_grid_has_no_more_trials_than_points(tmp_path: Path, points: int, total: int) -> None:
    of_study = source(tmp_path, points=points)
    assert of_study.total == of_study.session.display.total == total
    said = ["the grid has 4 points, so there will be no more trials than that"] if points == 4 else []
    assert of_study.session.display.said == said


def test_retries_come_on_top_of_a_grid(tmp_path: Path) -> None:
    rows = [trial(0, "FAIL", "run0"), trial(1, "WAITING", None, retry_of=0)]
    of_study = source(tmp_path, rows, points=4)
    assert of_study.total == of_study.session.display.total == 5


def test_what_a_dead_driver_closed_in_optuna_alone_is_unrecorded(tmp_path: Path) -> None:
    rows = [
        trial(0, "COMPLETE", "run0", 0.5),
        trial(1, "RUNNING", "run1"),
        trial(2, "FAIL", "run2"),
        trial(3, "PRUNED", "run3", 0.5),
        trial(4, "FAIL", None),
    ]
    of_study = source(tmp_path, rows)
    found = of_study.unrecorded()
    assert [(spec.number, spec.run_id, state) for spec, state in found] == [
        (0, "run0", "COMPLETE"),
        (2, "run2", "FAIL"),
    ]
    assert ("running", "1", "s") in of_study.session.tracking.made


@pytest.mark.parametrize(
    ("trainer", "reports"),
    [
        ({"max_epochs": 5}, 5),
        ({"max_epochs": 5, "val_check_interval": 0.25}, 20),
        ({"max_epochs": 3, "val_check_interval": 1.0}, 3),
        ({"max_epochs": -1}, None),
        ({"max_steps": 100}, None),
    ],
)
def test_how_often_a_trial_validates(trainer: dict[str, Any], reports: int | None) -> None:
    """It is what Hyperband takes for the length of a trial."""
    study: Any = SimpleNamespace(experiment=SimpleNamespace(trainer=trainer))
    assert Study._reports(study) == reports


@pytest.mark.parametrize(("pruner", "waits"), [("none", False), ("median", True), ("asha", True)])
def test_trials_wait_for_verdicts_only_where_there_is_a_pruner(tmp_path: Path, pruner: str, waits: bool) -> None:
    of_study = source(tmp_path)
    of_study.study.plan.pruner = pruner
    spec = of_study.next()
    assert spec is not None and spec.pruning == waits
