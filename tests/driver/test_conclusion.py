"""What is in MLflow when a study has ended: ranks, leaderboard, pictures, status and champion."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import Calls, FakeSearch, Screen

from studies.config.search_plan import SearchPlan
from studies.config.search_space import Choice, Range
from studies.driver import conclusion
from studies.driver.conclusion import conclude
from studies.driver.session import Options
from studies.search import TrialRow


def of_trials(folder: Path, rows: list[TrialRow], test: bool = False, **answer: Any) -> Any:
    """A study that has run these trials.

    Args:
        test: whether its champion is tested and registered.
        answer: of the process that does so.
    """
    calls: list[tuple[str, dict[str, Any]]] = []

    def call(function: str, payload: dict[str, Any], while_waiting: Any) -> dict[str, Any]:
        calls.append((function, payload))
        return {"test": {"test/loss": 0.25}, **answer}

    home = SimpleNamespace(trial_folder=lambda run_id: folder / run_id, tracking_uri="sqlite:///here")
    executor = SimpleNamespace(call=call, calls=calls)
    plan = SearchPlan("val/loss", "minimize", {})
    experiment = SimpleNamespace(name="toy", model={}, search_path=["here"], search=plan)
    session = SimpleNamespace(
        tracking=Calls(),
        display=Screen(),
        options=Options([], test=test),
        state_folder=home,
        executor=executor,
        experiment=experiment,
    )
    return SimpleNamespace(
        session=session,
        plan=plan,
        search=FakeSearch(rows),
        name="s",
        experiment=experiment,
        experiment_id="1",
        page="#/experiments/1",
        parent="parent",
        parent_folder=folder,
    )


def loop(signal: int | None = None, timed_out: bool = False) -> Any:
    return SimpleNamespace(signal=signal, timed_out=timed_out)


def trial(number: int, value: float | None, state: str = "COMPLETE", **params: Any) -> TrialRow:
    return TrialRow(number, state, value, params, f"run{number}")


TRIALS = [
    trial(0, 0.5, a=1),
    trial(1, 0.25, a=2),
    trial(2, 0.1, "PRUNED", a=3),
    trial(3, None, "FAIL"),
    trial(4, 0.25, a=5),
]


def made(study: Any, method: str) -> list[tuple[Any, ...]]:
    return [call[1:] for call in study.session.tracking.made if call[0] == method]


@pytest.mark.parametrize(
    ("signal", "timed_out", "status"),
    [
        (None, False, ("FINISHED", None)),
        (None, True, ("KILLED", "interrupted")),
        (2, False, ("KILLED", "interrupted")),
    ],
)
def test_a_study_that_was_stopped_is_not_finished(
    tmp_path: Path, signal: int | None, timed_out: bool, status: tuple[str, str | None]
) -> None:
    study = of_trials(tmp_path, [])
    conclude(study, loop(signal, timed_out))
    assert made(study, "end") == [("parent", *status)]


def test_complete_trials_are_ranked_by_value_and_the_earlier_of_equals_first(tmp_path: Path) -> None:
    study = of_trials(tmp_path, TRIALS)
    fields = conclude(study, loop())
    assert made(study, "rank") == [("1", "s", {"run1": 1, "run4": 2, "run0": 3})]
    ((run_id, table, name),) = made(study, "log_table")
    assert (run_id, name) == ("parent", "leaderboard.json")
    assert table == {
        "rank": [1, 2, 3, None, None],
        "trial": [1, 4, 0, 2, 3],
        "state": ["COMPLETE", "COMPLETE", "COMPLETE", "PRUNED", "FAIL"],
        "val/loss": [0.25, 0.25, 0.5, 0.1, None],
        "a": ["2", "5", "1", "3", "None"],
        "run_id": ["run1", "run4", "run0", "run2", "run3"],
    }
    assert fields["best"] == {"number": 1, "value": 0.25, "params": {"a": 2}, "run_id": "run1"}
    assert [row["number"] for row in fields["trials"]] == [0, 1, 2, 3, 4] and fields["test"] == {}
    assert made(study, "log_metrics") == [("parent", {"best/val/loss": 0.25})]


def test_a_study_without_a_complete_trial_has_no_best(tmp_path: Path) -> None:
    study = of_trials(tmp_path, TRIALS[2:4], test=True)
    assert conclude(study, loop())["best"] is None
    assert made(study, "log_metrics") == [] and study.session.executor.calls == []


def test_the_champion_alone_is_tested_and_registered(tmp_path: Path) -> None:
    study = of_trials(tmp_path, TRIALS, test=True, note="version 3 of toy")
    assert conclude(study, loop())["test"] == {"test/loss": 0.25}
    ((function, payload),) = study.session.executor.calls
    assert function == "studies.inference.register_worker:publish"
    assert payload["spec"] == str(tmp_path / "run1" / "spec.json") and payload["value"] == 0.25
    assert payload["search_path"] == ["here"], (
        "the experiment's, and not what a specification in the state folder names"
    )
    assert {name: payload[name] for name in ("parent", "study", "metric", "direction", "tracking_uri")} == {
        "parent": "parent",
        "study": "s",
        "metric": "val/loss",
        "direction": "minimize",
        "tracking_uri": "sqlite:///here",
    }
    assert [requirement.split("==")[0] for requirement in payload["requirements"]] == ["torch", "numpy"]
    order = [call[0] for call in study.session.tracking.made]
    assert order.index("flush") < order.index("end"), "the process that registers it is the only writer meanwhile"
    assert study.session.display.said == ["version 3 of toy"]


@pytest.mark.parametrize(("signal", "test"), [(2, True), (None, False)])
def test_nothing_is_tested_after_an_interruption_or_with_no_test(
    tmp_path: Path, signal: int | None, test: bool
) -> None:
    study = of_trials(tmp_path, TRIALS, test=test)
    assert conclude(study, loop(signal))["test"] == {}
    assert study.session.executor.calls == []


def test_a_study_that_ran_out_of_time_is_tested(tmp_path: Path) -> None:
    study = of_trials(tmp_path, TRIALS, test=True)
    assert conclude(study, loop(timed_out=True))["test"] == {"test/loss": 0.25}


def test_a_champion_that_cannot_be_registered_is_an_error_of_the_study(tmp_path: Path) -> None:
    study = of_trials(tmp_path, TRIALS, test=True, error="no such class")
    assert conclude(study, loop())["test"] == {}
    assert study.session.display.said == ["the champion could not be published: no such class"]
    assert made(study, "set_tags") == [("parent", {"harness.error": "no such class"})]
    assert made(study, "end") == [("parent", "FINISHED", None)]


def test_pictures_show_complete_and_pruned_trials(tmp_path: Path) -> None:
    study = of_trials(tmp_path, [*TRIALS, trial(5, None)])
    conclude(study, loop())
    names = {path.name for path in (tmp_path / "artifacts" / "pictures").iterdir()}
    assert names == {"history.png", "parallel_coordinates.png", "parallel_coordinates.html", "slices.png"}
    assert ("parent", tmp_path / "artifacts" / "pictures", "pictures") in made(study, "log_files")


def test_what_pictures_are_drawn_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, tuple[Any, ...]] = {}

    def noted(name: str, real: Any) -> Any:
        def draw(*arguments: Any) -> Any:
            drawn[name] = arguments
            return real(*arguments)

        return draw

    for name in ("study_history", "parallel_coordinates", "slices", "importance"):
        monkeypatch.setattr(conclusion.study_plots, name, noted(name, getattr(conclusion.study_plots, name)))
    study = of_trials(tmp_path, [*TRIALS, trial(5, 0.4, "COMPLETE", a=6, b=1)])
    study.search.importances = lambda most=0: {"a": 1.0}
    study.plan.space = {
        "a": Range(1e-4, 1.0, log=True),
        "linear": Range(0, 1),
        "sizes": Choice([8, 64]),
        "few": Choice([8, 63]),
        "names": Choice(["x", 64]),
        "flags": Choice([True, 64]),
        "zero": Choice([0, 64]),
    }
    conclude(study, loop())
    numbers, values, states, metric, direction = drawn["study_history"]
    assert (numbers, values, metric, direction) == (
        [0, 1, 2, 4, 5],
        [0.5, 0.25, 0.1, 0.25, 0.4],
        "val/loss",
        "minimize",
    )
    assert states == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE", "COMPLETE"]
    params, of_params, _, _, log, ends = drawn["parallel_coordinates"]
    assert ends == {"a": (1e-4, 1.0), "linear": (0, 1)}
    assert params == {"a": [1, 2, 3, 5, 6]} and of_params == values and log == {"a", "sizes"}
    assert drawn["importance"] == ({"a": 1.0}, "val/loss", (4, 4))


def test_a_study_of_which_no_trial_has_a_value_has_no_pictures(tmp_path: Path) -> None:
    study = of_trials(tmp_path, [trial(0, None, "FAIL")])
    conclude(study, loop())
    assert not list((tmp_path / "artifacts" / "pictures").iterdir())


def test_pictures_that_fail_cost_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any) -> None:
        raise RuntimeError("no font\nat all")

    monkeypatch.setattr(conclusion.study_plots, "study_history", fails)
    study = of_trials(tmp_path, TRIALS)
    conclude(study, loop())
    assert study.session.display.said == ["the study's pictures could not be drawn: RuntimeError: no font"]
    assert made(study, "end") == [("parent", "FINISHED", None)]


def test_a_full_disk_is_not_taken_for_a_picture_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(conclusion.study_plots, "study_history", fails)
    with pytest.raises(OSError, match="No space left"):
        conclude(of_trials(tmp_path, TRIALS), loop())


def test_a_value_of_zero_is_a_value(tmp_path: Path) -> None:
    study = of_trials(tmp_path, [trial(0, 0.5), trial(1, 0.0), trial(2, -0.5)])
    assert conclude(study, loop())["best"]["number"] == 2
    assert made(study, "rank") == [("1", "s", {"run2": 1, "run1": 2, "run0": 3})]


def test_pictures_of_the_same_trials_are_not_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conclude(of_trials(tmp_path, TRIALS), loop())
    drawn = []
    monkeypatch.setattr(conclusion, "save", lambda figure, path: drawn.append(path.stem) or path.write_text("new"))
    again = of_trials(tmp_path, TRIALS)
    conclude(again, loop())
    assert not drawn
    assert ("parent", tmp_path / "artifacts" / "pictures", "pictures") in made(again, "log_files")
    conclude(of_trials(tmp_path, [*TRIALS, trial(5, 0.3, a=6)]), loop())
    assert "history" in drawn, "there is another trial"
    drawn.clear()
    (tmp_path / "artifacts" / "pictures" / "history.png").write_text("c")
    conclude(of_trials(tmp_path, [*TRIALS, trial(5, 0.3, a=6)]), loop())
    assert "history" in drawn, "a picture was lost"


def test_the_report_of_the_same_trials_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "artifacts" / "report.html"
    study = of_trials(tmp_path, TRIALS)
    conclude(study, loop())
    assert ("parent", path) in made(study, "log_files") and "<title>s</title>" in path.read_text()
    monkeypatch.setattr(conclusion, "study_page", lambda report: "another page")
    conclude(of_trials(tmp_path, TRIALS), loop())
    assert "<title>s</title>" in path.read_text()
    conclude(of_trials(tmp_path, [*TRIALS, trial(5, None, "FAIL")]), loop())
    assert path.read_text() == "another page", "there is another trial"
    path.unlink()
    conclude(of_trials(tmp_path, [*TRIALS, trial(5, None, "FAIL")]), loop())
    assert path.exists()


def test_a_report_that_fails_costs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(report: Any) -> str:
        raise KeyError("a column")

    monkeypatch.setattr(conclusion, "study_page", fails)
    study = of_trials(tmp_path, TRIALS)
    conclude(study, loop())
    assert study.session.display.said == ["the study's report could not be drawn: KeyError: 'a column'"]
    assert made(study, "end") == [("parent", "FINISHED", None)]
