"""The sentences of a confirm."""

from __future__ import annotations

from collections.abc import Callable

from studies.driver.verdicts import luck, verdict_lines
from studies.statistics.intervals import summarize
from studies.statistics.race import Race


def raced(value: Callable[[str, int], float], seeds: int = 5, candidates: int = 2) -> Race:
    race = Race([f"trial {number}" for number in range(candidates)], "defaults", "maximize", seeds)
    while cells := race.next():
        for cell in cells:
            race.add(*cell, value(*cell))
    return race


def test_the_first_line_is_about_the_leader_and_the_baseline() -> None:
    noise = [0.01, -0.02, 0.015, 0.0, 0.005]
    mean = {"trial 0": 0.8, "trial 1": 0.9, "defaults": 0.5}
    lines = verdict_lines(raced(lambda name, index: mean[name] + noise[(index * (len(name) + index)) % 5]))
    assert lines[0].startswith("trial 1 beats defaults (difference +0.4") and "5 paired seeds" in lines[0]
    assert "corrected for 2 comparisons" in lines[0] and "P(better) 100.0%" in lines[0]


def test_a_worse_candidate_is_told_the_other_way_round() -> None:
    noise = [0.01, -0.02, 0.015, 0.0, 0.005]
    lines = verdict_lines(raced(lambda name, index: (name == "defaults") + noise[index] * len(name), candidates=1))
    assert lines[0].startswith("defaults beats trial 0 (difference +")


def test_a_tie_and_one_that_needs_more_seeds() -> None:
    tie = verdict_lines(raced(lambda name, index: (-1.0) ** index * (name == "defaults"), 6, 1))
    assert tie[0].startswith("trial 0 and defaults are not distinguishable (difference")
    values = [1.0, -0.5, 1.2, 0.1, 0.9]
    more = verdict_lines(raced(lambda name, index: values[index] * (name != "defaults"), candidates=1))
    assert more[0].startswith("more seeds needed to tell trial 0 from defaults: about ")


def test_an_unfinished_race_has_no_verdict() -> None:
    assert verdict_lines(Race(["trial 0"], "defaults", "maximize", 5)) == ["no verdict yet: not all seeds are trained"]


def test_luck_is_positive_if_the_search_saw_a_better_value_than_fresh_seeds_give() -> None:
    assert luck(0.95, summarize([0.9, 0.92]), "maximize") == 0.95 - 0.91
    assert luck(0.2, summarize([0.3, 0.3]), "minimize") == 0.3 - 0.2
    assert luck(None, summarize([1.0]), "maximize") is luck(1.0, None, "maximize") is None
