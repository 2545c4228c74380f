import pytest

from studies.config.checks import PRUNERS
from studies.config.search_space import parse_space
from studies.search.pruner_replay import replay_pruner
from studies.search.recorded_curves import Curve
from studies.search.sampler_replay import regrets, search_again

SPACE = parse_space({"model.x": {"low": 0.0, "high": 1.0}, "model.c": [[1], [2]]})


def curve(number: int, value: float, late: bool = False) -> Curve:
    """A trial of 8 seconds and 8 reports, right after the one before; a late one is bad at first."""
    reports = [value * (step / 8 if not late or step > 6 else 0.0) for step in range(1, 9)]
    params = {"model.x": number / 20, "model.c": [1 + number % 2]}
    return Curve(number, 8.0 * number, 8.0 * number + 8, params, reports, value)


def test_what_a_pruner_saves_and_loses() -> None:
    curves = [curve(number, 0.5 + number % 5 / 10) for number in range(10)]
    assert replay_pruner(curves, "none", "maximize")["seconds_saved"] == 0
    found = replay_pruner(curves, "median", "maximize")
    # The first 4 run to their end. Number 4 is the best, 5 and 6 are below the median at their second report.
    assert found["pruned"] > 0 and found["best_survived"] and found["regret"] == 0 and not found["wrongly_pruned"]
    assert found["reports"] == 80 and found["seconds"] == pytest.approx(80)
    assert found["seconds_saved"] == pytest.approx(found["reports_saved"]), "a report takes a second"


def test_a_late_winner_is_lost_and_said_to_be() -> None:
    curves = [*(curve(number, 0.5 + number / 100) for number in range(9)), curve(9, 0.9, late=True)]
    found = replay_pruner(curves, "median", "maximize")
    assert not found["best_survived"] and found["wrongly_pruned"] == [{"number": 9, "rank": 1, "at": 2}]
    assert found["regret"] == pytest.approx(0.9 - 0.58)


def test_trials_at_once_are_judged_by_what_was_known_then() -> None:
    apart = [curve(number, 0.9 - number / 100) for number in range(8)]
    at_once = [Curve(one.number, one.number / 1000, 8.0, one.params, one.reports, one.value) for one in apart]
    assert replay_pruner(apart, "median", "maximize")["pruned"] == 4
    assert replay_pruner(at_once, "median", "maximize")["pruned"] == 0, "median needs four whole trials"


@pytest.mark.parametrize("pruner", PRUNERS)
def test_every_pruner_replays_in_both_directions(pruner: str) -> None:
    curves = [curve(number, 0.5 + number / 100) for number in range(6)]
    flipped = [Curve(c.number, c.began, c.ended, c.params, [-value for value in c.reports], -c.value) for c in curves]
    assert replay_pruner(curves, pruner, "maximize") == replay_pruner(flipped, pruner, "minimize")


@pytest.mark.parametrize("sampler", ["random", "tpe", "cmaes", "nsga2"])
def test_a_sampler_gets_each_recorded_trial_once(sampler: str) -> None:
    curves = [curve(number, -((number - 13) ** 2)) for number in range(20)]
    steps = search_again(curves, SPACE, "maximize", sampler, "none", 0, 99)
    assert len(steps) == 20 and steps[-1] == (0.0, 160)
    bests = [step.best for step in steps if step.best is not None]
    assert bests == sorted(bests)
    found = regrets(curves, SPACE, "maximize", sampler, range(3), 20)
    assert found[-1] == 0 and found == sorted(found, reverse=True)


def test_a_pruned_trial_takes_fewer_reports() -> None:
    curves = [curve(number, 0.5 + number % 7 / 10) for number in range(20)]
    assert search_again(curves, SPACE, "maximize", "random", "median", 0, 20)[-1].reports < 160
