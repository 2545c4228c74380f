"""A study's space may grow: what is accepted, what is refused, and what samplers know afterwards."""

from pathlib import Path
from typing import Any

import optuna
import pytest

from studies.common.plain import acceleration
from studies.config.search_space import parse_space
from studies.search import Search, delete_study, study_names
from studies.search.space_changes import space_changes
from studies.search.storage import COPY, LEFT

BEFORE = {
    "model.lr": {"low": 1e-3, "high": 0.1, "log": True},
    "model.sizes": [[1], [2, 3]],
    "data.n": {"low": 1, "high": 8},
}


def open_search(folder: Path, space: Any, sampler: str = "random", accelerated: bool = False, **more: Any) -> Search:
    definition = {"experiment": {}, "space": space, "metric": "m", "direction": "maximize", "seed": 5, **more}
    parts = fast.for_search() if accelerated and (fast := acceleration()) else {}
    return Search(f"sqlite:///{folder}/o.db", "s", definition, parse_space(space), sampler, "none", 4, **parts)


def changed(**parameters: Any) -> dict[str, Any]:
    return {**BEFORE, **{name.replace("__", "."): value for name, value in parameters.items()}}


def test_what_has_changed_is_said_by_parameter() -> None:
    assert space_changes("s", BEFORE, dict(reversed(BEFORE.items()))) == []
    assert (
        space_changes("s", BEFORE, {"model.init_args.lr" if k == "model.lr" else k: v for k, v in BEFORE.items()}) == []
    )
    now = changed(model__sizes=[[4], [2, 3], [1]], data__n={"low": 2, "high": 16})
    assert space_changes("s", BEFORE, now) == [
        "model.sizes is [[4], [2, 3], [1]] instead of [[1], [2, 3]]",
        'data.n is {"low": 2, "high": 16} instead of {"low": 1, "high": 8}',
    ]


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (
            changed(model__lr={"low": 1e-3, "high": 0.1}),
            'model.lr is {"low": 0.001, "high": 0.1, "log": true}, but got',
        ),
        (changed(model__lr=[1e-3, 1e-2]), "a list cannot become a range, nor a range a list"),
        (changed(model__sizes=[[1], [4]]), "[2, 3] cannot be removed from a list, only values added"),
        (changed(data__n={"low": 1.0, "high": 8.0}), "whole numbers cannot become fractions"),
        (
            changed(data__more=[1, 2]),
            "a parameter cannot be added or removed: data.more is not searched, but got [1, 2]",
        ),
        ({"model.lr": BEFORE["model.lr"]}, "model.sizes is [[1], [2, 3]], but got not searched"),
        ("package.module:function", 'but got "package.module:function"'),
    ],
)
def test_what_conflicts_names_the_parameter_and_both_values(now: Any, said: str) -> None:
    with pytest.raises(ValueError, match="study s exists with a different space") as error:
        space_changes("s", BEFORE, now)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_bool_is_no_number_of_a_list() -> None:
    with pytest.raises(ValueError, match="true cannot be removed"):
        space_changes("s", {"model.a": [True, 2]}, {"model.a": [1, 2]})


@pytest.mark.parametrize("accelerated", [False, True])
@pytest.mark.parametrize("sampler", ["tpe", "cmaes", pytest.param("gp", marks=pytest.mark.slow), "nsga2"])
def test_a_grown_study_keeps_its_trials_and_draws_what_is_new(tmp_path: Path, sampler: str, accelerated: bool) -> None:
    if accelerated and sampler in ("gp", "cmaes"):
        pytest.skip("the same sampler")
    search = open_search(tmp_path, BEFORE, sampler, accelerated)
    for number in range(12):
        row = search.ask()
        search.bind(number, f"run{number}")
        search.report(number, 1, row.params["model.lr"])
        if number < 11:
            search.tell(number, ["COMPLETE", "PRUNED", "FAIL"][min(2, number % 5)], row.params["model.lr"])
    search.rebind(0, "elsewhere")
    search.write()
    before = search.trials()
    now = changed(
        model__sizes=[[4], [1], [2, 3]],
        data__n={"low": 1, "high": 1000},
        model__lr={"low": 0.01, "high": 1.0, "log": True},
    )
    grown = open_search(tmp_path, now, sampler, accelerated)
    assert len(grown.changes) == 3 and all(change in "\n".join(grown.history) for change in grown.changes)
    after = grown.trials()
    assert [(r.number, r.state, r.value, r.params, r.run_id, r.seconds, r.began) for r in after] == [
        (r.number, r.state, r.value, r.params, r.run_id, r.seconds, r.began) for r in before
    ]
    assert grown.reopen(11).params == before[11].params, "an interrupted trial keeps its values"
    grown.tell(11, "COMPLETE", 0.5)
    drawn = []
    for number in range(12, 40):
        drawn.append(grown.ask().params)
        grown.tell(number, "COMPLETE", 0.5)
    assert all(0.01 <= params["model.lr"] <= 1.0 for params in drawn)
    assert any(params["model.sizes"] == [4] for params in drawn) and any(params["data.n"] > 8 for params in drawn)
    again = open_search(tmp_path, now, sampler, accelerated)
    assert again.changes == [] and len(again.history) == 3 and len(again.trials()) == 40
    assert study_names(f"sqlite:///{tmp_path}/o.db") == ["s"]


def test_a_widened_parameter_stays_in_what_tpe_models_jointly(tmp_path: Path) -> None:
    search = open_search(tmp_path, BEFORE)
    for number in range(3):
        search.ask()
        search.tell(number, "COMPLETE", 0.5)
    open_search(tmp_path, changed(model__sizes=[[4], [1], [2, 3]], data__n={"low": 1, "high": 9}))
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/o.db")
    joint = optuna.search_space.intersection_search_space(study.trials)
    assert set(joint) == set(BEFORE)
    assert joint["data.n"].high == 9 and len(joint["model.sizes"].choices) == 3  # type: ignore[attr-defined]


def test_a_grown_grid_visits_the_points_that_are_new(tmp_path: Path) -> None:
    search = open_search(tmp_path, {"model.a": [1, 2], "data.b": {"low": 1, "high": 2}}, "grid")
    assert search.points == 4
    for number in range(4):
        search.ask()
        search.tell(number, "COMPLETE", 0.5)
    grown = open_search(tmp_path, {"model.a": [1, 2, 3], "data.b": {"low": 2, "high": 4}}, "grid")
    assert grown.points == 2 + 9, "two that are no longer in the grid were tried"
    for number in range(4, 11):
        grown.ask()
        grown.tell(number, "COMPLETE", 0.5)
    points = [tuple(row.params.values()) for row in grown.trials()]
    assert len(set(points)) == 11 and {(a, b) for a in (1, 2, 3) for b in (2, 3, 4)} <= set(points)


def test_a_retry_in_a_grid_does_not_cost_a_point(tmp_path: Path) -> None:
    search = open_search(tmp_path, {"model.a": [1, 2, 3]}, "grid")
    search.ask()
    search.tell(0, "FAIL", None)
    search.retry_failed()
    search.reopen(1)
    search.tell(1, "COMPLETE", 0.5)
    for number in (2, 3):
        search.ask()
        search.tell(number, "COMPLETE", 0.5)
    assert {row.params["model.a"] for row in search.trials()} == {1, 2, 3} and search.points == 3


def test_a_crash_amid_the_rewriting_costs_nothing(tmp_path: Path) -> None:
    search = open_search(tmp_path, BEFORE)
    for number in range(3):
        search.ask()
        search.tell(number, "COMPLETE", 0.5)
    params = [row.params for row in search.trials()]
    now, url = changed(model__sizes=[[1], [2, 3], [4]]), f"sqlite:///{tmp_path}/o.db"

    def dies(*args: Any, study_name: str = LEFT, **kwargs: Any) -> None:
        if study_name.endswith(LEFT):
            raise KeyboardInterrupt

    for where in ("sqlalchemy.text", "optuna.delete_study"):  # before the new study takes its name, and after
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(where, dies)
            if where == "optuna.delete_study":
                optuna.storages.RDBStorage(url).delete_study(2)  # the first copy
            open_search(tmp_path, now)
        left = COPY if where == "sqlalchemy.text" else LEFT
        assert sorted(optuna.get_all_study_names(url)) == ["s", f"s{left}"] and study_names(url) == ["s"]
        found = Search.existing(url, "s")
        assert [row.params for row in found.trials()] == params
        assert found.definition["space"] == (BEFORE if left == COPY else now)
        assert open_search(tmp_path, found.definition["space"]).changes == []
    more = changed(model__sizes=[[1], [2, 3], [4], [5]])
    assert open_search(tmp_path, more).changes and optuna.get_all_study_names(url) == ["s"]


def test_another_difference_is_refused_before_anything_is_rewritten(tmp_path: Path) -> None:
    open_search(tmp_path, BEFORE)
    with pytest.raises(ValueError, match="a different metric"):
        open_search(tmp_path, changed(model__sizes=[[1], [2, 3], [4]]), metric="other")
    assert Search.existing(f"sqlite:///{tmp_path}/o.db", "s").history == []


def test_deleting_a_study_deletes_what_a_crash_left_of_it(tmp_path: Path) -> None:
    open_search(tmp_path, BEFORE)
    url = f"sqlite:///{tmp_path}/o.db"
    for left in (COPY, LEFT):
        optuna.create_study(study_name=f"s{left}", storage=url)
    delete_study(url, "s")
    assert optuna.get_all_study_names(url) == []
