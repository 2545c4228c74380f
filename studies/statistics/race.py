"""A race of configurations over seeds: which are still trained, and what their values say in the end.

Configurations that cannot win any more stop early, as in racing algorithms (Maron and Moore 1994; Birattari et al.
2002). Stopping one makes no claim about it; claims come from the comparisons at the end, of paired seeds.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from studies.common.objective import better
from studies.statistics.paired import Comparison, compare

FIRST_LOOK = 4  # seeds before a configuration may be stopped
HOPELESS = 0.01  # p-value of a one-sided paired t-test against the leader, below which one is stopped


@dataclass
class Race:
    """Candidates, and perhaps a baseline, on the same seeds.

    Args:
        candidates: names, at least one; at least two without a baseline.
        baseline: name of the configuration that candidates are to beat; it is never stopped early.
        direction: "maximize" or "minimize".
        seeds: number of seeds for each that is not stopped, at least 2.
        looks: how often the values have been looked at, this time included; comparisons are corrected for it.

    Attributes:
        stopped: name -> number of seeds after which it was stopped.
        failed: names whose training failed; they are out of the race.
    """

    candidates: Sequence[str]
    baseline: str | None
    direction: str
    seeds: int
    looks: int = 1
    stopped: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.seeds < 2 or len(self.arms) < 2:
            raise ValueError(f"a race needs two configurations and two seeds, but got {self.arms} and {self.seeds}")
        self._results: dict[tuple[str, int], float] = {}

    @property
    def arms(self) -> list[str]:
        return [*self.candidates, *([self.baseline] if self.baseline is not None else [])]

    @property
    def values(self) -> dict[str, list[float]]:
        """Name -> its values in the order of the seeds, up to the first seed that is missing."""
        found: dict[str, list[float]] = {}
        for name in self.arms:
            cells = itertools.takewhile(self._results.__contains__, ((name, index) for index in range(self.seeds)))
            found[name] = [self._results[cell] for cell in cells]
        return found

    @property
    def running(self) -> list[str]:
        """Those that are neither stopped nor failed."""
        return [name for name in self.arms if name not in self.stopped and name not in self.failed]

    @property
    def over(self) -> bool:
        return self.baseline in self.failed or all(name in (*self.stopped, *self.failed) for name in self.candidates)

    @property
    def finished(self) -> bool:
        """Whether all that are not stopped or failed have been trained on all seeds."""
        return self.over or all(len(self.values[name]) == self.seeds for name in self.running)

    def next(self) -> list[tuple[str, int]]:
        """What may be trained now: name and index of the seed, in order; empty at the end, or while others train.

        All up to the first look at once, then one seed of all at a time, because a stop depends on the whole seed.
        """
        if self.over:
            return []
        complete = min(len(self.values[name]) for name in self.running)
        until = min(self.seeds, FIRST_LOOK if complete < FIRST_LOOK else complete + 1)
        cells = [(name, index) for index in range(complete, until) for name in self.running]
        return [cell for cell in cells if cell not in self._results]

    def add(self, name: str, index: int, value: float) -> list[str]:
        """Adds a result; returns the names that stop because of it."""
        self._results[name, index] = value
        return self._look()

    def fail(self, name: str) -> None:
        """Takes a configuration out of the race whose training failed."""
        if name not in self.failed:
            self.failed.append(name)

    def _look(self) -> list[str]:
        running = self.running
        if not running or len({len(self.values[name]) for name in running}) > 1:
            return []
        seeds = len(self.values[running[0]])
        if not FIRST_LOOK <= seeds < self.seeds:
            return []
        best = self._best(running)
        new = []
        for name in sorted(set(running) - {best, self.baseline}):
            if len(self.running) > 2 and self._hopeless(name, best):
                self.stopped[name] = seeds
                new.append(name)
        return new

    def _hopeless(self, name: str, best: str) -> bool:
        found = compare(self.values[best], self.values[name], self.direction)
        return found.difference > 0 and found.p_value / 2 < HOPELESS

    def _best(self, names: Sequence[str]) -> str:
        best = names[0]
        for name in names[1:]:
            if better(self.mean(name), self.mean(best), self.direction):
                best = name
        return best

    def mean(self, name: str) -> float:
        return sum(self.values[name]) / len(self.values[name])

    @property
    def leader(self) -> str | None:
        """The candidate with the best mean of those that finished, or None."""
        finished = [name for name in self.candidates if name in self.running and len(self.values[name]) == self.seeds]
        return self._best(finished) if finished else None

    def comparisons(self) -> dict[tuple[str, str], Comparison]:
        """Pairs (a, b) -> a against b: each candidate against the baseline, and the leader against the others.

        Those with the baseline are corrected for the number of candidates; those of the leader, which is chosen by
        the same values, for the number of pairs of candidates; all for the number of looks.
        """
        count, leader = len(self.candidates), self.leader
        pairs: dict[tuple[str, str], int] = {}
        if self.baseline is not None:
            pairs = {(name, self.baseline): count for name in self.candidates}
        if leader is not None:
            pairs |= {(leader, name): count * (count - 1) // 2 for name in self.candidates if name != leader}
        found = {}
        for (a, b), corrected in pairs.items():
            shared = min(len(self.values[a]), len(self.values[b]))
            if shared >= 2 and a not in self.failed and b not in self.failed:
                found[a, b] = compare(
                    self.values[a][:shared], self.values[b][:shared], self.direction, corrected * self.looks
                )
        return found

    def winner(self) -> str | None:
        """The leader if it beats the baseline, or without one all other candidates that finished; or None."""
        leader = self.leader
        if leader is None:
            return None
        rivals = [self.baseline] if self.baseline else [name for name in self.running if name != leader]
        found = self.comparisons()
        beaten = [pair in found and found[pair].verdict == "better" for pair in ((leader, name) for name in rivals)]
        return leader if beaten and all(beaten) else None
