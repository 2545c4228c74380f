"""How often `harness confirm` declares a false winner, and how often it finds a real difference: simulated values.

    .venv/bin/python benchmarks/confirm_rates.py

Seeds are independent and normally distributed. Columns: trials that are confirmed (--top); confirms of a planted tie
that have a winner; confirms in which one trial is better than all else by two standard deviations, and that trial wins.
"""

from __future__ import annotations

import numpy as np

from studies.statistics.race import Race

CONFIRMS, SEEDS = 1000, 10


def simulated(candidates: int, planted: float, random: np.random.Generator) -> Race:
    names = [f"trial {number}" for number in range(candidates)]
    means = dict.fromkeys([*names, "defaults"], 0.0) | {names[-1]: planted}
    race = Race(names, "defaults", "maximize", SEEDS)
    while cells := race.next():
        for name, index in cells:
            race.add(name, index, random.normal(means[name]))
    return race


def main() -> None:
    random = np.random.default_rng(0)
    print("| trials | false winners of a tie | a difference of 2 standard deviations is found |")
    print("|---|---|---|")
    for candidates in (1, 2, 3, 5):
        ties = [simulated(candidates, 0.0, random).winner() is not None for _ in range(CONFIRMS)]
        found = [(race := simulated(candidates, 2.0, random)).winner() == race.candidates[-1] for _ in range(CONFIRMS)]
        print(f"| {candidates} | {np.mean(ties):.1%} | {np.mean(found):.1%} |")


if __name__ == "__main__":
    main()
