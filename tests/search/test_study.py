import math
from pathlib import Path
from typing import Any

import optuna
import pytest

from studies.config.search_space import Choice, Range, parse_space
from studies.search import (
    Search,
    TrialRow,
    best_of,
    check_space,
    derive_seed,
    distribution_of,
    make_pruner,
    make_sampler,
    ranked,
)

WRITTEN = {"model.lr": {"low": 1e-4, "high": 0.1, "log": True}, "model.sizes": [[1], [2, 3]], "data.b": [8, 16]}


def open_search(folder: Path, sampler: str = "random", pruner: str = "none", **changes: Any) -> Search:
    definition = {"space": WRITTEN, "metric": "m", "direction": "maximize", "seed": 5} | changes
    url = f"sqlite:///{folder}/optuna.db"
    space = definition["space"] if isinstance(definition["space"], str) else parse_space(definition["space"])
    return Search(url, "s", definition, space, sampler, pruner, reports=4)


def test_ask_tell_and_read_back(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    row = search.ask()
    assert row.number == 0 and set(row.params) == set(WRITTEN)
    assert row.params["model.sizes"] in ([1], [2, 3]), "lists come back as lists"
    search.bind(0, "run0")
    search.report(0, 1, 0.5)
    search.tell(0, "COMPLETE", 0.5)
    search.ask()
    search.report(1, 1, 0.25)
    search.tell(1, "PRUNED", 0.25)
    search.ask()
    search.tell(2, "FAIL", None)
    rows = open_search(tmp_path).trials()
    assert [(row.state, row.value, row.run_id) for row in rows] == [
        ("COMPLETE", 0.5, "run0"),
        ("PRUNED", 0.25, None),
        ("FAIL", None, None),
    ]
    assert rows[0].params == row.params
    best = best_of(rows, {"m": "maximize"})
    assert best is not None and best.number == 0


def test_a_nan_is_a_failure(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    search.ask()
    search.tell(0, "COMPLETE", float("nan"))
    assert search.trials()[0].state == "FAIL"
    assert best_of(search.trials(), {"m": "maximize"}) is None


@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_parameters_depend_on_seed_and_number_alone(tmp_path: Path, sampler: str) -> None:
    written = {"model.sizes": [[1], [2, 3]], "data.b": [8, 16, 32]}
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    first = open_search(folders[0], sampler, space=written)
    drawn = [first.ask().params for _ in range(5)]  # five at once, without results
    restarted = []
    for number in range(5):  # one at a time, by a new driver each
        search = open_search(folders[1], sampler, space=written)
        restarted.append(search.ask().params)
        search.tell(number, "COMPLETE", float(number))
    assert drawn == restarted


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_an_adaptive_sampler_draws_the_same_after_a_restart(tmp_path: Path, sampler: str) -> None:
    """Caches between draws must not affect the drawn values."""
    drawn = []
    for folder, restarts in ((tmp_path / "steady", False), (tmp_path / "restarted", True)):
        folder.mkdir()
        search = open_search(folder, sampler)
        params = []
        for number in range(14):  # TPE's first 10 draws are random
            search = open_search(folder, sampler) if restarts else search
            params.append(search.ask().params)
            search.tell(number, "COMPLETE", float(number % 5))
        drawn.append(params)
    assert drawn[0] == drawn[1]


def test_the_grid_visits_each_point_once(tmp_path: Path) -> None:
    search = open_search(tmp_path, "grid", space={"model.a": [1, 2, 3], "data.b": [True, False]})
    assert search.points == 6
    points = [tuple(search.ask().params.values()) for _ in range(6)]
    assert len(set(points)) == 6


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])
def test_every_sampler_draws_within_the_space(tmp_path: Path, sampler: str) -> None:
    written = {"model.lr": {"low": 1e-4, "high": 0.1, "log": True}, "model.n": {"low": 1, "high": 9}}
    search = open_search(tmp_path, sampler, space=written)
    for number in range(14):
        params = search.ask().params
        assert 1e-4 <= params["model.lr"] <= 0.1 and params["model.n"] in range(1, 10)
        search.tell(number, "COMPLETE", params["model.lr"])


def test_median_prunes_the_worse_half(tmp_path: Path) -> None:
    search = open_search(tmp_path, pruner="median")
    for number in range(5):
        search.ask()
        for step in (1, 2, 3):
            assert not search.report(number, step, 0.9)
        search.tell(number, "COMPLETE", 0.9)
    search.ask()
    assert [search.report(5, step, 0.1) for step in (1, 2)] == [False, True]


@pytest.mark.parametrize("pruner", ["asha", "hyperband"])
def test_a_hopeless_trial_is_pruned(tmp_path: Path, pruner: str) -> None:
    search = open_search(tmp_path, pruner=pruner)
    pruned = 0
    for number in range(12):
        search.ask()
        value = 0.9 if number < 6 else 0.1
        stopped = any(search.report(number, step, value) for step in range(1, 5))
        pruned += stopped
        search.tell(number, "PRUNED" if stopped else "COMPLETE", value)
    assert pruned >= 3
    assert search.trials()[0].state == "COMPLETE"


def test_a_trial_left_running_resumes_with_the_same_parameters(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    params = search.ask().params
    search.bind(0, "run0")
    search.report(0, 1, 0.5)
    search.write()
    again = open_search(tmp_path)
    row = again.reopen(0)
    assert (row.params, row.run_id) == (params, "run0")
    again.report(0, 1, 0.5)  # a resumed trial repeats itself
    again.report(0, 2, 0.6)
    again.tell(0, "COMPLETE", 0.6)
    assert [row.state for row in again.trials()] == ["COMPLETE"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"direction": "minimize"}, "a different direction"),
        ({"space": {"model.lr": [1, 2]}}, "a different space"),
        ({"space": "a.module:function"}, "a different space"),
        ({"metric": "other"}, "a different metric"),
        ({"seed": 6}, "a different seed"),
    ],
)
def test_a_study_of_the_same_name_with_another_definition(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    open_search(tmp_path)
    with pytest.raises(ValueError, match=said):
        open_search(tmp_path, **changes)


def test_a_space_may_be_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "myspace.py").write_text(
        "def space(trial):\n"
        "    deep = trial.suggest_categorical('deep', [True])\n"
        "    return {'model.width': trial.suggest_int('width', 2, 4)} if deep else {}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    search = open_search(tmp_path, space="myspace:space")
    assert search.ask().params["model.width"] in (2, 3, 4)
    with pytest.raises(ValueError, match="does not import"):
        check_space("myspace:nothing", "tpe")
    with pytest.raises(ValueError, match="grid"):
        check_space("myspace:space", "grid")


def test_seeds_are_independent() -> None:
    seeds = [derive_seed(s, n, purpose) for s in range(20) for n in range(20) for purpose in ("sampler", "training")]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**31 for seed in seeds)
    assert derive_seed(0, 0, "training") == derive_seed(0, 0, "training")


def test_distributions() -> None:
    assert distribution_of(Range(1, 8)) == optuna.distributions.IntDistribution(1, 8)
    assert distribution_of(Range(0.0, 1.0, step=0.5)) == optuna.distributions.FloatDistribution(0.0, 1.0, step=0.5)
    assert distribution_of(Choice([[1], 2])) == optuna.distributions.CategoricalDistribution(["[1]", 2])


def test_names_of_the_experiment_file_all_work() -> None:
    from studies.config.checks import PRUNERS, SAMPLERS

    assert all(make_sampler(name, 0) for name in SAMPLERS)
    assert all(make_pruner(name, 5) for name in PRUNERS)


def test_importance_of_what_matters(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    assert search.importances() == {}
    for number in range(12):
        params = search.ask().params
        search.tell(number, "COMPLETE", float(params["data.b"]))
    importances = search.importances()
    assert max(importances, key=lambda name: importances[name]) == "data.b"


def test_importance_uses_a_limited_number_of_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.search.study.FANOVA_TRIALS", 20)
    looked_at: list[int] = []
    evaluate = optuna.importance.FanovaImportanceEvaluator.evaluate

    def counting(self: Any, study: optuna.Study, **options: Any) -> dict[str, float]:
        looked_at.append(len(study.trials))
        return evaluate(self, study, **options)

    monkeypatch.setattr(optuna.importance.FanovaImportanceEvaluator, "evaluate", counting)
    search = open_search(tmp_path)
    for number in range(40):
        params = search.ask().params
        search.tell(number, "COMPLETE", float(params["data.b"]))
    importances = search.importances()
    assert looked_at == [20]
    assert max(importances, key=lambda name: importances[name]) == "data.b"
    assert len(search.trials()) == 40


VALUES = {
    "some": [1.0, math.inf, 2.0, 0.5],
    "both": [math.inf, -math.inf, 1.0],
    "all": [math.inf],
    "none": [-math.inf],
    "huge": [1e308, -1e308, 5e-324],
}


@pytest.mark.parametrize(
    ("sampler", "pruner"),
    [*((name, "none") for name in ("tpe", "cmaes", "random")), *(("random", name) for name in ("median", "asha"))],
)
@pytest.mark.parametrize("values", VALUES)
def test_an_objective_may_be_infinite(tmp_path: Path, sampler: str, pruner: str, values: str) -> None:
    space = {"model.a": {"low": 1e-3, "high": 0.5, "log": True}, "model.b": [4, 8]}
    definition = {"experiment": {}, "space": space, "metric": "m", "direction": "minimize", "seed": 1}
    storage = f"sqlite:///{tmp_path}/optuna.db"
    search = Search(storage, "s", definition, parse_space(space), sampler, pruner, 3)
    cycle = VALUES[values]
    for number in range(12):
        row = search.ask()
        value = cycle[number % len(cycle)]
        pruned = any(search.report(row.number, step, value) for step in (1, 2, 3))
        search.tell(row.number, "PRUNED" if pruned else "COMPLETE", None if pruned else value)
    again = Search.existing(storage, "s")
    rows = again.trials()
    assert [row.value for row in rows if row.state == "COMPLETE"]
    best = best_of(rows, {"m": "minimize"})
    assert best is not None and best.value == min(row.value for row in rows if row.state == "COMPLETE")
    assert all(math.isfinite(share) for share in again.importances().values())


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_of_equal_trials_the_earlier_is_the_best(direction: str) -> None:
    values = [0.5, 0.2, 0.2, 0.5, None]
    rows = [TrialRow(number, "COMPLETE", value) for number, value in enumerate(values)]
    for order in (rows, rows[::-1]):
        best = best_of(order, {"m": direction})
        assert best is not None and best.number == (1 if direction == "minimize" else 0)


def test_a_pruned_trial_keeps_its_best_and_its_last_value(tmp_path: Path) -> None:
    search = open_search(tmp_path, pruner="median")
    for number, values in enumerate([(0.2, 0.9, 0.1), (0.6, 0.7, 0.8)]):
        search.ask()
        for step, value in enumerate(values, start=1):
            search.report(number, step, value)
        search.tell(number, "PRUNED", max(values))
    rows = open_search(tmp_path).trials()
    assert [(row.value, row.last) for row in rows] == [(0.9, 0.1), (0.8, 0.8)]
    assert [row.number for row in ranked(rows, {"m": "maximize"}, ("COMPLETE", "PRUNED"))] == [0, 1]
    assert rows[0].to_json()["last"] == 0.1 and "last" not in TrialRow(0, "COMPLETE", 0.5).to_json()
    stored = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/optuna.db")
    assert [trial.value for trial in stored.trials] == [0.1, 0.8], "as Optuna's samplers expect"


def test_another_sampler_or_pruner_is_history(tmp_path: Path) -> None:
    assert open_search(tmp_path).use_method("tpe", "median") == []
    search = open_search(tmp_path)
    assert search.use_method("tpe", "median") == [] and search.history == []
    own = {"class_path": "my.Pruner", "init_args": {"n": 3}}
    said = ["sampler is random instead of tpe", 'pruner is my.Pruner {"n": 3} instead of median']
    assert search.use_method("random", own) == said
    again = open_search(tmp_path)
    assert again.use_method("random", own) == []
    assert again.use_method("random", "median") == ['pruner is median instead of my.Pruner {"n": 3}']
    assert [line.partition(" UTC: ")[2] for line in again.history][:2] == said and len(again.history) == 3


def test_other_data_are_said_once_and_kept_as_history(tmp_path: Path) -> None:
    def start(digests: dict[str, str]) -> str | None:
        return open_search(tmp_path).trained_on(digests)

    assert start({"train": "aa", "val": "bb"}) is None and start({"train": "aa"}) is None
    assert start({"train": "a2", "test": "cc"}) == "data changed since: train aa -> a2"
    assert start({"train": "a2", "val": "bb", "test": "cc"}) is None
    assert start({}) is None, "nothing is known of the data of a function"
    (line,) = open_search(tmp_path).history
    assert line.endswith("data changed since: train aa -> a2")
