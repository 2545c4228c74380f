"""A search by several objectives: values, front, champion, pruning, restarts."""

import itertools
import math
import random
from pathlib import Path
from typing import Any

import optuna
import pytest

from studies.common.plain import acceleration
from studies.config.search_space import parse_space
from studies.search import Search, TrialRow, best_of, check_space, front_of, hypervolume_history, ranked

SPACE = {"model.a": {"low": 1e-3, "high": 0.5, "log": True}, "model.b": [[], [4], [8]]}
OBJECTIVES = {"acc": "maximize", "size": "minimize"}


def open_search(folder: Path, sampler: str = "random", pruner: str = "none", **parts: Any) -> Search:
    definition = {"experiment": {}, "space": SPACE, "metric": "acc", "direction": "maximize", "seed": 3}
    definition["further"] = {"size": "minimize"}
    return Search(f"sqlite:///{folder}/o.db", "s", definition, parse_space(SPACE), sampler, pruner, 4, **parts)


def rows_of(*points: tuple[float, float]) -> list[TrialRow]:
    return [TrialRow(n, "COMPLETE", acc, further={"size": size}) for n, (acc, size) in enumerate(points)]


def brute_force(rows: list[TrialRow]) -> set[int]:
    """The front by comparing each trial with each other one."""
    complete = [row for row in rows if row.state == "COMPLETE"]

    def beats(one: TrialRow, other: TrialRow) -> bool:
        a, b = (one.value, -one.further["size"]), (other.value, -other.further["size"])
        return a[0] >= b[0] and a[1] >= b[1] and a != b  # type: ignore[operator]

    return {row.number for row in complete if not any(beats(other, row) for other in complete)}


def test_the_front_is_that_of_brute_force_and_of_optuna(tmp_path: Path) -> None:
    chance, search = random.Random(0), open_search(tmp_path)
    for number in range(40):
        search.ask()
        state = chance.choice(["COMPLETE", "COMPLETE", "COMPLETE", "PRUNED", "FAIL"])
        search.tell(number, state, chance.randrange(12) / 12, {"size": float(chance.randrange(12))})
    rows = search.trials()
    front = [row.number for row in front_of(rows, OBJECTIVES)]
    optunas = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/o.db").best_trials
    assert set(front) == brute_force(rows) == {trial.number for trial in optunas} and len(front) > 2
    best_first = ranked(rows, OBJECTIVES)
    assert [row.number for row in best_first[: len(front)]] == front, "the front comes first"
    assert best_of(rows, OBJECTIVES) == best_first[0]


def test_the_champion_is_the_best_of_the_front_by_the_first_metric() -> None:
    rows = rows_of((0.9, 50), (0.95, 90), (0.95, 70), (0.5, 1), (0.95, 70))
    assert [row.number for row in front_of(rows, OBJECTIVES)] == [2, 4, 0, 3]
    best = best_of(rows, OBJECTIVES)
    assert best is not None and best.number == 2, "ties by the second metric, then by number"
    assert [row.number for row in ranked(rows, OBJECTIVES)] == [2, 4, 0, 3, 1]


def test_values_survive_a_restart(tmp_path: Path) -> None:
    search = open_search(tmp_path, pruner="median")
    for number, state in enumerate(["COMPLETE", "PRUNED", "FAIL"]):
        search.ask()
        search.bind(number, f"run{number}")
        search.report(number, 1, 0.5, {"size": 7.0})
        search.report(number, 2, 0.25, {"size": 8.0})
        search.tell(number, state, 0.5, {"size": 7.0})
    search.ask()
    search.report(3, 1, 0.75, {"size": 9.0})
    search.write()
    for again in (open_search(tmp_path), Search.existing(f"sqlite:///{tmp_path}/o.db", "s")):
        found = [(row.state, row.value, row.further) for row in again.trials()]
        assert found[0] == ("COMPLETE", 0.5, {"size": 7.0})
        assert found[1] == ("PRUNED", 0.5, {"size": 7.0}), "of its best report, not its last"
        assert found[2:] == [("FAIL", None, {}), ("RUNNING", None, {})]
    again = open_search(tmp_path, pruner="median")
    again.reopen(3)
    again.report(3, 1, 0.75, {"size": 9.0})  # a resumed trial repeats itself
    again.tell(3, "COMPLETE", 0.75, {"size": 9.0})
    assert again.trials()[3].value == 0.75


@pytest.mark.parametrize("value", [math.nan, None])
def test_a_complete_trial_has_a_number_for_each_objective(tmp_path: Path, value: float | None) -> None:
    search = open_search(tmp_path)
    search.ask()
    search.tell(0, "COMPLETE", 0.5, {"size": value} if value is not None else {})
    assert search.trials()[0].state == "FAIL"


@pytest.mark.parametrize("pruner", ["median", "asha", "hyperband"])
def test_only_dominated_trials_are_pruned(tmp_path: Path, pruner: str) -> None:
    """A hopeless trial is pruned, one as bad but smaller than all others is not."""
    search = open_search(tmp_path, pruner=pruner)

    def goes_on(number: int, acc: float, size: float) -> bool:
        search.ask()
        stopped = any(search.report(number, step, acc, {"size": size}) for step in range(1, 5))
        search.tell(number, "PRUNED" if stopped else "COMPLETE", acc, {"size": size})
        return not stopped

    assert all(goes_on(number, 0.9, 50.0) for number in range(6))
    large = [goes_on(number, 0.1, 60.0) for number in range(6, 16)]
    assert not all(large), "some are pruned"
    assert goes_on(16, 0.05, 10.0)
    small = [goes_on(number, 0.1, 5.0 - number / 100) for number in range(17, 27)]
    assert all(small)


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["median", "asha"])
def test_verdicts_are_the_same_after_restarts(tmp_path: Path, pruner: str) -> None:
    chance = random.Random(1)
    curves = [[(chance.random(), 10.0 * (number % 3)) for _ in range(4)] for number in range(30)]
    verdicts: list[list[int]] = []
    for folder, restarts in ((tmp_path / "steady", False), (tmp_path / "restarted", True)):
        folder.mkdir()
        search = open_search(folder, pruner=pruner)
        verdicts.append([])
        for number, curve in enumerate(curves):
            search.ask()
            steps = 0
            for step, (acc, size) in enumerate(curve, start=1):
                steps = step
                if restarts and chance.random() < 0.3:
                    search.write()
                    search = open_search(folder, pruner=pruner)
                    search.reopen(number)
                if search.report(number, step, acc, {"size": size}):
                    break
            acc, size = max(curve[:steps])
            search.tell(number, "COMPLETE" if steps == 4 else "PRUNED", acc, {"size": size})
            verdicts[-1].append(steps)
    assert verdicts[0] == verdicts[1] and len(set(verdicts[0])) > 1


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "random", "grid"])
def test_samplers_search_by_several_objectives(tmp_path: Path, sampler: str) -> None:
    """The same draws after restarts, and with the accelerated storage and sampler."""
    drawn = []
    for kind in ("steady", "restarted", "accelerated"):
        folder = tmp_path / kind
        folder.mkdir()
        space = {name: value for name, value in SPACE.items() if sampler != "grid" or isinstance(value, list)}
        parts = fast.for_search() if kind == "accelerated" and (fast := acceleration()) else {}
        definition = {"space": space, "metric": "acc", "direction": "maximize", "seed": 3}
        definition["further"] = {"size": "minimize"}

        def opened(
            folder: Path = folder, definition: Any = definition, space: Any = space, parts: Any = parts
        ) -> Search:
            return Search(
                f"sqlite:///{folder}/o.db", "s", definition, parse_space(space), sampler, "median", 4, **parts
            )

        search, params = opened(), []
        for number in range(14 if sampler != "grid" else 3):
            search = opened() if kind == "restarted" else search
            row = search.ask()
            params.append(row.params)
            search.report(number, 1, number % 5 / 5, {"size": float(len(row.params["model.b"]))})
            state = "PRUNED" if number % 4 == 3 else "COMPLETE"
            search.tell(number, state, number % 5 / 5, {"size": float(len(row.params["model.b"]))})
        drawn.append(params)
    assert drawn[0] == drawn[1] == drawn[2]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
@pytest.mark.parametrize("values", [(1.0, math.inf), (math.inf, -math.inf), (1e308, -1e308)])
def test_objectives_may_be_infinite(tmp_path: Path, sampler: str, values: tuple[float, float]) -> None:
    search = open_search(tmp_path, sampler, "median")
    for number, (acc, size) in zip(range(16), itertools.cycle(itertools.product(values, values)), strict=False):
        search.ask()
        search.report(number, 1, acc, {"size": size})
        search.tell(number, "COMPLETE", acc, {"size": size})
    rows = search.trials()
    assert {row.number for row in front_of(rows, OBJECTIVES)} == brute_force(rows)
    assert all(0 <= share <= 1 for share in hypervolume_history(rows, OBJECTIVES).values())
    assert all(math.isfinite(share) for share in search.importances().values())


def test_samplers_of_one_objective_are_refused() -> None:
    space = parse_space(SPACE)
    with pytest.raises(ValueError, match=r"sampler cmaes searches by one metric, but there are 2 \(allowed: .*nsga2"):
        check_space(space, "cmaes", "none", 2)
    with pytest.raises(ValueError, match="CmaEsSampler"):
        check_space(space, {"class_path": "optuna.samplers.CmaEsSampler", "init_args": {}}, "none", 2)
    check_space(space, {"class_path": "optuna.samplers.NSGAIIISampler", "init_args": {}}, "none", 2)
    check_space(space, "cmaes")


def test_the_hypervolume_is_the_dominated_share() -> None:
    rows = [*rows_of((0.0, 4), (1.0, 4), (0.5, 0), (1.0, 2)), TrialRow(4, "PRUNED", 9.0, further={"size": 0.0})]
    history = hypervolume_history(rows, OBJECTIVES)
    # Scaled to losses in a unit square: (1, 1), (0, 1), (0.5, 0), (0, 0.5).
    assert history == pytest.approx({0: 0.0, 1: 0.0, 2: 0.5, 3: 0.75})
    assert hypervolume_history([], OBJECTIVES) == {}
    assert hypervolume_history(rows_of((1.0, 2)), OBJECTIVES) == {0: 1.0}


def test_a_study_of_one_objective_does_not_become_one_of_several(tmp_path: Path) -> None:
    open_search(tmp_path)
    definition = {"experiment": {}, "space": SPACE, "metric": "acc", "direction": "maximize", "seed": 3}
    with pytest.raises(ValueError, match="a different further"):
        Search(f"sqlite:///{tmp_path}/o.db", "s", definition, parse_space(SPACE), "random", "none", 4)


def test_importances_are_those_for_the_first_metric(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    for number in range(16):
        params = search.ask().params
        search.tell(number, "COMPLETE", float(len(params["model.b"])), {"size": params["model.a"]})
    importances = search.importances()
    assert max(importances, key=lambda name: importances[name]) == "model.b"


def test_reports_that_somebody_has_changed_are_one_line(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    search.ask()
    search.report(0, 1, 0.5, {"size": 1.0})
    search._live[0].set_user_attr("harness.report.2", "nonsense")
    search.tell(0, "PRUNED", 0.5, {"size": 1.0})
    with pytest.raises(ValueError, match=r"study s cannot be read: harness\.report\.2 of trial 0"):
        Search.existing(f"sqlite:///{tmp_path}/o.db", "s")
