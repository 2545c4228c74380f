"""The error rates that `harness confirm` promises, on simulated values, and the rules of the race."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from studies.statistics.race import Race

CONFIRMS = 200


def run(race: Race, value: Callable[[str, int], float]) -> Race:
    while cells := race.next():
        for name, index in cells:
            race.add(name, index, value(name, index))
    return race


def simulated(candidates: int, planted: float, random: np.random.Generator) -> Race:
    """A confirm of 10 seeds. The last candidate is better by `planted` standard deviations of a seed."""
    names = [f"trial {number}" for number in range(candidates)]
    means = dict.fromkeys([*names, "defaults"], 0.9) | {names[-1]: 0.9 + 0.01 * planted}
    return run(Race(names, "defaults", "maximize", 10), lambda name, index: random.normal(means[name], 0.01))


@pytest.mark.parametrize("candidates", [1, 3])
def test_a_planted_tie_has_a_false_winner_in_at_most_one_of_twenty(candidates: int) -> None:
    random = np.random.default_rng(0)
    races = [simulated(candidates, 0.0, random) for _ in range(CONFIRMS)]
    assert sum(race.winner() is not None for race in races) <= CONFIRMS * 0.05


@pytest.mark.parametrize("candidates", [1, 2])
def test_a_planted_difference_of_two_standard_deviations_is_found_in_nine_of_ten(candidates: int) -> None:
    random = np.random.default_rng(0)
    races = [simulated(candidates, 2.0, random) for _ in range(CONFIRMS)]
    assert sum(race.winner() == race.candidates[-1] for race in races) >= CONFIRMS * 0.9


def test_what_cannot_win_any_more_stops_early_and_is_no_claim() -> None:
    random = np.random.default_rng(1)
    means = {"trial 0": 1.0, "trial 1": 0.0, "defaults": 0.5}
    race = run(
        Race(["trial 0", "trial 1"], "defaults", "maximize", 10),
        lambda name, index: means[name] + random.normal(0, 0.05),
    )
    assert race.stopped == {"trial 1": 4} and len(race.values["trial 1"]) == 4
    assert race.finished and race.leader == race.winner() == "trial 0"


def test_the_baseline_never_stops_and_two_always_remain() -> None:
    means = {"trial 0": 1.0, "trial 1": 0.0, "defaults": 0.0}
    race = run(Race(["trial 0", "trial 1"], "defaults", "maximize", 8), lambda name, index: means[name] + 0.01 * index)
    assert len(race.values["defaults"]) == 8
    worse = run(Race(["trial 0"], "defaults", "minimize", 8), lambda name, index: means[name] + 0.01 * index)
    assert worse.winner() is None and worse.comparisons()["trial 0", "defaults"].verdict == "worse"


def test_a_failed_configuration_is_out_and_the_others_go_on() -> None:
    race = Race(["trial 0", "trial 1"], "defaults", "maximize", 3)
    race.fail("trial 1")
    run(race, lambda name, index: float(name == "trial 0"))
    assert race.finished and race.winner() == "trial 0" and not race.values["trial 1"]
    race = Race(["trial 0"], "defaults", "maximize", 3)
    race.fail("trial 0")
    assert race.next() == [] and race.finished and race.winner() is None


def test_without_a_baseline_the_leader_must_beat_all_others() -> None:
    random = np.random.default_rng(0)
    race = run(Race(["a", "b"], None, "maximize", 6), lambda name, index: float(name == "a") + random.normal(0, 0.01))
    assert race.winner() == "a"
    race = run(Race(["a", "b"], None, "maximize", 6), lambda name, index: float(name == "a") * (-1.0) ** index)
    assert race.winner() is None


def test_a_second_look_is_corrected_for() -> None:
    races = [Race(["a", "b"], "defaults", "maximize", 4, looks=looks) for looks in (1, 2)]
    once, twice = (run(race, lambda name, index: len(name) + 0.1 * index * index).comparisons() for race in races)
    assert twice["a", "defaults"].comparisons == 2 * once["a", "defaults"].comparisons == 4


def test_results_that_come_in_another_order_decide_the_same() -> None:
    random = np.random.default_rng(3)
    value = {(name, index): random.normal(len(name), 1) for name in ("a", "bb", "ccc") for index in range(6)}
    forward = run(Race(["a", "bb"], "ccc", "maximize", 6), lambda *cell: value[cell])
    backward = Race(["a", "bb"], "ccc", "maximize", 6)
    while cells := backward.next():
        for cell in reversed(cells):
            backward.add(*cell, value[cell])
    assert forward.values == backward.values and forward.stopped == backward.stopped
    assert forward.winner() == backward.winner()
