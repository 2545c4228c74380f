import json
import random
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studies.common.plain import acceleration
from studies.config.search_space import parse_space
from studies.search import Search
from studies.search.draw_order import DRAWN_BY, OPENED, events_of
from studies.search.redrawing import lines_of, redraw

SPACE: dict[str, Any] = {"model.x": {"low": 0.0, "high": 1.0}, "model.n": {"low": 1, "high": 9}, "model.c": [[1], [2]]}
WIDER = SPACE | {"model.x": {"low": 0.0, "high": 2.0}}


def faster() -> dict[str, Any]:
    found = acceleration()
    return found.for_search() if found else {}


class Driver:
    """One study, driven at random by drivers that are killed at random."""

    def __init__(self, folder: Path, sampler: str, seed: int, name: str = "s", **further: Any) -> None:
        self.url, self.name, self.sampler = f"sqlite:///{folder}/o.db", name, sampler
        self.random, self.space, self.further = random.Random(seed), SPACE, further
        self.other: Search | None = None
        self.pruner = "median"
        self.start()

    def start(self, fast: bool = True) -> None:
        parts = faster() if fast else {}
        definition = {"experiment": {}, "space": self.space, "metric": "m", "direction": "maximize", "seed": 5}
        space = parse_space(self.space)
        definition |= self.further
        self.search = Search(self.url, self.name, definition, space, self.sampler, self.pruner, 4, **parts)
        if self.sampler in ("tpe", "gp") and not self.further:
            self.search.learn_from(self.other)
        states = [(row.number, row.state) for row in self.search.trials()]
        self.running: list[int] = []
        for number in [number for number, state in states if state in ("RUNNING", "WAITING")]:
            self.search.reopen(number)
            self.running.append(number)

    def step(self) -> None:
        what = self.random.random()
        if what < 0.5 and len(self.running) < 4:
            self.running.append(self.search.ask().number)
        elif what < 0.9 and self.running:
            number = self.running.pop(self.random.randrange(len(self.running)))
            params = self.search.trials()[number].params
            value = -((params["model.x"] - 0.7) ** 2) - abs(params["model.n"] - 7) / 50
            state = self.random.choice(["COMPLETE", "COMPLETE", "COMPLETE", "PRUNED", "FAIL"])
            for step in range(1, self.random.randint(2, 5)):
                self.search.report(number, step, value / step, {"size": params["model.n"]})
            self.search.tell(number, state, None if state == "FAIL" else value, {"size": params["model.n"]})
        elif what < 0.93:
            self.search.enqueue([{"model.n": self.random.randint(1, 9)}])
        elif what < 0.95:
            self.search.retry_failed()
        else:  # its driver is killed
            if self.random.random() < 0.3:
                self.space = WIDER
            self.start(self.random.random() < 0.8)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()
        self.search.write()


SAMPLERS = ["tpe", *(pytest.param(name, marks=pytest.mark.slow) for name in ("random", "nsga2", "cmaes", "gp"))]


@pytest.mark.parametrize("sampler", SAMPLERS)
@given(seed=st.integers(0, 2**31))
@settings(max_examples=1, deadline=None, derandomize=True)
def test_whatever_happened_each_trial_is_drawn_again(sampler: str, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        driver = Driver(Path(folder), sampler, seed)
        driver.run(60)
        found = redraw(driver.url, "s", faster)
        assert found.difference is None and not found.not_drawn
        assert found.drawn == sum(row.state != "WAITING" for row in driver.search.trials()) > 8


def fast_study(folder: Path, **changes: Any) -> Driver:
    """A study with four trials at once, each of which ends after three later ones were drawn."""
    driver = Driver(folder, "tpe", 1, **changes)
    for number in range(18):
        driver.running.append(driver.search.ask().number)
        if number >= 3:
            its = driver.running.pop(0)
            driver.search.report(its, 1, its / 10, {"size": -its})
            driver.search.tell(its, "COMPLETE", -abs(its - 11.0), {"size": -its})
    driver.search.write()
    return driver


def sql(folder: Path, statement: str) -> None:
    with sqlite3.connect(folder / "o.db") as database:
        assert database.execute(statement).rowcount > 0


def test_the_first_trial_that_differs_is_found_with_both_values(tmp_path: Path) -> None:
    driver = fast_study(tmp_path)
    recorded = driver.search.trials()[15].params["model.x"]
    sql(tmp_path, "UPDATE trial_params SET param_value = 0.125 WHERE param_name = 'model.x' AND trial_id = 16")
    found = redraw(driver.url, "s", faster)
    expected = {"number": 15, "parameter": "model.x", "recorded": 0.125, "redrawn": recorded}
    assert (found.drawn, found.difference) == (15, expected)
    assert next(lines_of("s", found)).startswith("study s: trial 15 is not drawn again: model.x was 0.125, but is now")


def test_the_order_of_results_matters(tmp_path: Path) -> None:
    """Results told one trial later draw other trials: the order is not kept for nothing."""
    driver = fast_study(tmp_path)
    where = "trial_system_attributes SET value_json = {} WHERE key = 'harness.{}' AND trial_id = {}"
    sql(tmp_path, "UPDATE " + where.format(f"'{3 + 2 * 11}'", "ended", 12))
    with pytest.raises(ValueError, match="study s cannot be read: two events of its trials have the same moment"):
        redraw(driver.url, "s", faster)
    events, _ = events_of(driver.search.optuna_study.get_trials(deepcopy=False))
    ended = next(event for event in events if event.ended and event.trial.number == 11)
    later = events[ended.moment + 1]
    assert not later.ended
    sql(tmp_path, "UPDATE " + where.format(f"'{later.moment}'", "ended", 12))
    sql(tmp_path, "UPDATE " + where.format(f"'{ended.moment}'", "opened", later.trial.number + 1))
    found = redraw(driver.url, "s", faster)
    assert found.difference is not None and found.difference["number"] == later.trial.number


def test_another_studys_results_brackets_and_objectives_are_as_they_were(tmp_path: Path) -> None:
    other = fast_study(tmp_path, name="other")
    driver = Driver(tmp_path, "tpe", 3)
    driver.other, driver.pruner = other.search, "hyperband"
    driver.start()
    driver.run(40)
    found = redraw(driver.url, "s", faster)
    assert found.difference is None and not found.not_drawn and found.drawn > 5
    optuna.delete_study(study_name="other", storage=driver.url)
    gone = redraw(driver.url, "s", faster)
    assert gone.not_drawn == ["study other, from whose results its sampler has learned, is gone"] and not gone.drawn
    several = fast_study(tmp_path, name="several", further={"size": "minimize"})
    found = redraw(several.url, "several", faster)
    assert found.difference is None and found.drawn == 18


def test_trials_of_an_older_version_are_known_but_not_drawn(tmp_path: Path) -> None:
    driver = fast_study(tmp_path)
    events, _ = events_of(driver.search.optuna_study.get_trials(deepcopy=False))
    moment = next(event.moment for event in events if event.trial.number == 12)
    older = f"key LIKE 'harness.%ed' AND CAST(value_json AS INTEGER) < {moment}"
    sql(tmp_path, f"DELETE FROM trial_system_attributes WHERE {older}")
    drawn_by = json.dumps([entry | {"from": moment} for entry in driver.search.optuna_study.user_attrs[DRAWN_BY]])
    sql(tmp_path, f"UPDATE study_user_attributes SET value_json = '{drawn_by}' WHERE key = '{DRAWN_BY}'")
    found = redraw(driver.url, "s", faster)
    assert found.not_drawn == ["12 trials were drawn by an older version, which did not keep the order of results"]
    assert found.difference is None and found.drawn == 6
    sql(tmp_path, "DELETE FROM trial_system_attributes")
    assert redraw(driver.url, "s").drawn == 0


def test_a_driver_that_dies_while_it_draws_leaves_what_can_be_drawn_again(tmp_path: Path) -> None:
    driver = fast_study(tmp_path)
    driver.start(fast=False)
    number = driver.search.ask().number
    sql(tmp_path, f"DELETE FROM trial_system_attributes WHERE key = '{OPENED}' AND trial_id = {number + 1}")
    sql(tmp_path, f"DELETE FROM trial_params WHERE param_name = 'model.n' AND trial_id = {number + 1}")
    driver.start(fast=False)
    driver.search.ask()
    found = redraw(driver.url, "s", faster)
    assert found.not_drawn == [f"trial {number}: its driver died before it drew model.n"]
    assert found.difference is None and found.drawn == 19
