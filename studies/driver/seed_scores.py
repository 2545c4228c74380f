"""Trials that are scored by several seeds (`search.seeds`): one run after the other, pruned between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from studies.driver.replicates import Configuration, Replicates
from studies.driver.seeds import stored_summaries, summaries_of
from studies.driver.session import Session
from studies.protocol.trial_spec import TrialSpec
from studies.search import derive_seed
from studies.tracking.trial_log import STATUSES, Ending


def shared_seed(study_seed: int, index: int) -> int:
    """The index-th seed of every trial: the same for all, so that trials are compared with equal luck."""
    return derive_seed(study_seed, index, "shared")


Report = Callable[[int, int, float, dict[str, float]], bool]


class SeedScores:
    """The runs of each trial: the trial's own, with the first seed, and replicates below it with the others.

    Nothing of this is stored: a driver that resumes reads the same endings from the logs of the runs.

    Args:
        seeds: for each trial, at least 2.
        study: the study's name.
        report: passes a trial's means over the seeds so far to the pruner: its number, the step, the mean of the metric
            and those of the further objectives; returns whether to prune it.
    """

    def __init__(self, session: Session, experiment_id: str, study: str, seeds: int, report: Report) -> None:
        self.session, self._experiment_id, self._study, self._seeds = session, experiment_id, study, seeds
        self._report = report
        self._endings: dict[int, list[Ending]] = {}  # trial -> of its runs so far
        self._first: dict[int, TrialSpec] = {}  # trial -> its own run
        self._reports: dict[int, int] = {}  # trial -> number of reports of its own run
        self._waiting: deque[TrialSpec] = deque()

    def seed(self, index: int = 0) -> int:
        return shared_seed(self.session.experiment.seed, index)

    def next(self) -> TrialSpec | None:
        """The next run of a trial that has begun, if any."""
        return self._waiting.popleft() if self._waiting else None

    def reported(self, number: int, count: int) -> None:
        """The trial's own run has reported its metric for the count-th time."""
        self._reports[number] = max(count, self._reports.get(number, 0))

    def ended(self, spec: TrialSpec, ending: Ending) -> Ending | None:
        """Takes the ending of one run; returns that of the trial, or None if another seed follows."""
        number = spec.number
        endings = self._endings.setdefault(number, [])
        first = self._first.setdefault(number, spec)
        if ending.state == "INTERRUPTED":
            return ending
        endings.append(ending)
        if ending.state != "COMPLETE" or ending.value is None:
            return self._close(first, ending)
        whole = replace(
            ending,
            value=sum(one.value or 0.0 for one in endings) / len(endings),
            further={name: sum(one.further[name] for one in endings) / len(endings) for name in ending.further},
            seconds=sum(one.seconds for one in endings),
        )
        assert whole.value is not None
        if len(endings) < self._seeds:
            step = self._reports.get(number, 0) + len(endings)
            if not self._report(number, step, whole.value, whole.further):
                self._waiting.append(self._replicate(first, len(endings)))
                return None
            whole = replace(whole, state="PRUNED")
        return self._close(first, whole)

    def _replicate(self, first: TrialSpec, index: int) -> TrialSpec:
        session = self.session
        replicates = Replicates(session, self._experiment_id, first.run_id, True, {"harness.study": self._study})
        configuration = Configuration(f"trial {first.number}", first.experiment)
        spec = replicates.spec(configuration, self.seed(index))
        return replace(spec, number=first.number, params=first.params)

    def _close(self, first: TrialSpec, whole: Ending) -> Ending:
        """Shows the trial as a whole in its own run."""
        endings, soon = self._endings.pop(first.number), self.session.tracking.soon
        del self._first[first.number]
        self._reports.pop(first.number, None)
        if len(endings) > 1:
            summaries = stored_summaries(summaries_of(endings))
            soon.log_metrics(first.run_id, {f"over_seeds/{name}": value for name, value in summaries.items()})
            soon.end(first.run_id, *STATUSES[whole.state])
        return whole
