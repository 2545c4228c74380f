"""The runs of `harness confirm`: configurations on fresh seeds, as a race asks for them."""

from __future__ import annotations

from studies.config.search_plan import MOST_SEEDS
from studies.driver.replicates import Configuration, Replicates, goes_on
from studies.driver.seed_scores import shared_seed
from studies.driver.trial_source import TrialSource
from studies.protocol.events import Event
from studies.protocol.trial_spec import TrialSpec
from studies.search import derive_seed
from studies.statistics.race import Race
from studies.tracking.trial_log import Ending


def fresh_seeds(study_seed: int, trials: int, count: int) -> list[int]:
    """Seeds that no trial of a study has had, always the same ones.

    Args:
        trials: number of the study's trials.
    """
    used = {study_seed, *(derive_seed(study_seed, number, "training") for number in range(trials))}
    used |= {shared_seed(study_seed, index) for index in range(MOST_SEEDS)}
    found: list[int] = []
    number = 0
    while len(found) < count:
        seed = derive_seed(study_seed, number, "confirm")
        number += 1
        if seed not in used:
            used.add(seed)
            found.append(seed)
    return found


class ConfirmSource(TrialSource):
    """The replicates that the race asks for."""

    def __init__(
        self, replicates: Replicates, race: Race, configurations: dict[str, Configuration], seeds: list[int]
    ) -> None:
        self._replicates, self.race, self._configurations, self._seeds = replicates, race, configurations, seeds
        self._begun: set[tuple[str, int]] = set()
        self._cells: dict[str, tuple[str, int]] = {}  # run id -> configuration and index of the seed
        self.specs: dict[tuple[str, int], TrialSpec] = {}  # of finished runs

    def next(self) -> TrialSpec | None:
        cell = next((cell for cell in self.race.next() if cell not in self._begun), None)
        if cell is None:
            return None
        self._begun.add(cell)
        spec = self._replicates.spec(self._configurations[cell[0]], self._seeds[cell[1]])
        self._cells[spec.run_id] = cell
        return spec

    def may_resume(self, spec: TrialSpec, ending: Event) -> bool:
        return goes_on(ending)

    def ended(self, spec: TrialSpec, ending: Ending) -> Ending:
        name, index = self._cells[spec.run_id]
        display = self._replicates.session.display
        if ending.state == "COMPLETE" and ending.value is not None:
            self.specs[name, index] = spec
            for stopped in self.race.add(name, index, ending.value):
                display.inform(f"{stopped} cannot win any more: stopped after {index + 1} seeds")
        elif ending.state == "FAIL":
            self.race.fail(name)
            display.say(f"{name} is out: its training failed with seed {spec.seed}")
        display.total = sum(
            self.race.seeds if arm in self.race.running else len(self.race.values[arm]) for arm in self.race.arms
        )
        return ending
