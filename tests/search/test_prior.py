"""Trials with chosen values, and another study's results as prior knowledge."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from studies.common.plain import acceleration
from studies.config.search_space import parse_space
from studies.search import Search
from studies.search.prior import prior_trials

SPACE = {"model.x": {"low": 0.0, "high": 1.0}, "model.n": {"low": 1, "high": 9}, "model.c": [[1], [2]]}


def open_search(folder: Path, name: str = "s", sampler: str = "tpe", space: Any = SPACE, **parts: Any) -> Search:
    definition = {"experiment": {}, "space": space, "metric": "m", "direction": "maximize", "seed": 5}
    return Search(f"sqlite:///{folder}/o.db", name, definition, parse_space(space), sampler, "median", 4, **parts)


def value_of(params: dict[str, Any]) -> float:
    return float(-((params["model.x"] - 0.8) ** 2) - abs(params["model.n"] - 7) / 50)


def searched(search: Search, trials: int) -> list[dict[str, Any]]:
    found = []
    for _ in range(trials):
        row = search.ask()
        found.append(row.params)
        for step in (1, 2):
            search.report(row.number, step, value_of(row.params))
        search.tell(row.number, "PRUNED" if row.number % 4 == 3 else "COMPLETE", value_of(row.params))
    return found


def test_an_enqueued_trial_runs_once_with_its_values(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    chosen: list[dict[str, Any]] = [{"model.x": 0.25, "model.c": [2]}, {"model.n": 3}]
    assert search.enqueue(chosen) == 2 and search.enqueue([*chosen, {"model.n": 4}, {"model.n": 4}]) == 1
    assert open_search(tmp_path).enqueue(chosen) == 0, "nor after a restart"
    assert [row.state for row in search.trials()] == ["WAITING"] * 3
    first, second = search.reopen(0), search.reopen(1)
    assert first.enqueued and first.params["model.x"] == 0.25 and first.params["model.c"] == [2]
    assert first.params["model.n"] in range(1, 10), "what is not given is drawn"
    assert second.params["model.n"] == 3
    search.tell(0, "COMPLETE", 0.5)
    assert open_search(tmp_path).enqueue(chosen) == 0, "nor when it has ended"


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("gp", marks=pytest.mark.slow)])
def test_a_sampler_that_knows_another_study_begins_where_that_ended(tmp_path: Path, sampler: str) -> None:
    searched(open_search(tmp_path, "other", "random"), 40)
    alone = searched(open_search(tmp_path, "alone", sampler), 8)
    search = open_search(tmp_path, "informed", sampler)
    line = search.learn_from(open_search(tmp_path, "other"))
    assert line == "the sampler learns from 40 trials of study other"
    informed = searched(search, 8)
    assert sum(map(value_of, informed)) > sum(map(value_of, alone))
    assert len(search.trials()) == 8 and len(optuna.load_study(study_name="informed", storage=search._url).trials) == 8
    assert len(search.history) == 1 and search.history[0].endswith("its sampler learns from 40 trials of study other")


def test_draws_are_the_same_after_restarts_and_with_acceleration(tmp_path: Path) -> None:
    searched(open_search(tmp_path, "other", "random"), 15)
    other, drawn = open_search(tmp_path, "other"), []
    for name in ("steady", "restarted", "accelerated"):
        parts = fast.for_search() if name == "accelerated" and (fast := acceleration()) else {}
        search = open_search(tmp_path, name, **parts)
        numbers = search.learn_from(other if name == "steady" else Search.existing(search._url, "other"))
        params = []
        for number in range(12):
            if name == "restarted" and number:
                search = open_search(tmp_path, name)
                assert search.learn_from(None) == numbers
            params += searched(search, 1)
        drawn.append(params)
    assert drawn[0] == drawn[1] == drawn[2]


def test_what_the_other_study_finds_later_is_not_known(tmp_path: Path) -> None:
    other = open_search(tmp_path, "other", "random")
    searched(other, 5)
    open_search(tmp_path).learn_from(other)
    searched(other, 2)
    assert open_search(tmp_path).learn_from(None) == "the sampler learns from 5 trials of study other"
    assert open_search(tmp_path).learn_from(other) == "the sampler learns from 5 trials of study other"
    third = open_search(tmp_path, "third", "random")
    searched(third, 3)
    search = open_search(tmp_path)
    assert search.learn_from(third) == "the sampler learns from 3 trials of study third"
    assert len(search.history) == 2


def test_a_trial_that_was_interrupted_goes_on_in_an_informed_study(tmp_path: Path) -> None:
    searched(open_search(tmp_path, "other", "random"), 12)
    search = open_search(tmp_path)
    search.learn_from(open_search(tmp_path, "other"))
    params = search.ask().params
    search.report(0, 1, 0.5)
    search.write()
    again = open_search(tmp_path)
    again.learn_from(None)
    assert again.reopen(0).params == params
    again.report(0, 1, 0.5)
    again.report(0, 2, 0.5)
    again.tell(0, "COMPLETE", 0.5)
    assert again.trials()[0].value == 0.5
    searched(again, 1)


def test_only_what_both_spaces_have_is_known() -> None:
    study = optuna.create_study()
    theirs: Any = {"a": FloatDistribution(0.0, 10.0), "b": CategoricalDistribution(["[1]", "[2]", 3])}
    theirs["c"] = IntDistribution(1, 9)
    for a, b, c in ((0.5, "[1]", 2), (5.0, "[1]", 2), (0.5, 3, 2), (0.5, "[2]", 9)):
        params = {"a": a, "b": b, "c": c}
        study.add_trial(optuna.create_trial(value=1.0, params=params, distributions=theirs))
    failed = optuna.trial.TrialState.FAIL
    study.add_trial(optuna.create_trial(state=failed, params={"a": 0.5}, distributions={"a": theirs["a"]}))
    study.add_trial(optuna.create_trial(value=1.0))
    ours: Any = {"a": FloatDistribution(0.1, 1.0, log=True), "b": CategoricalDistribution(["[2]", "[1]"])}
    found = prior_trials(study.trials, {**ours, "d": IntDistribution(1, 2)})
    assert [trial.params for trial in found] == [{"a": 0.5, "b": "[1]"}, {"a": 0.5, "b": "[2]"}]
    assert all(trial.distributions == ours for trial in found)
    as_list = prior_trials(study.trials, {"c": CategoricalDistribution([2, 4])})
    assert [trial.params for trial in as_list] == [{"c": 2}] * 3, "whole numbers of a list"


def test_a_study_that_is_gone_is_said_and_a_broken_record_is_one_line(tmp_path: Path) -> None:
    searched(open_search(tmp_path, "other", "random"), 2)
    search = open_search(tmp_path)
    assert search.learn_from(None) is None
    search.learn_from(open_search(tmp_path, "other"))
    optuna.delete_study(study_name="other", storage=search._url)
    line = open_search(tmp_path).learn_from(None)
    assert line == "study other, from whose results the sampler has learned, is gone: it goes on without them"
    search._study.set_user_attr("harness.from_study", {"study": "other", "trials": "all"})
    with pytest.raises(ValueError, match=r"harness\.from_study is"):
        open_search(tmp_path).learn_from(None)
