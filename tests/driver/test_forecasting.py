import time
from dataclasses import replace

import pytest

from studies.driver.forecasting import Watched, _half_width, _is_enough, _seconds
from studies.protocol.events import Started


def started(epochs: int | None = 10) -> Started:
    return Started(1, "here", "cpu", {}, epochs, None, time=102.0)


def brief() -> Watched:
    """Two epochs of two batches, a validation and a checkpoint, the second in 3 s; half a second of pictures after."""
    return Watched(0.0, started(2), ended=9.5, progress=[(4.0, 2, 0), (7.0, 4, 1)], fit_seconds=7.0)


def test_a_trial_that_ended_is_known() -> None:
    assert _seconds(Watched(100.0, started(), ended=107.0), None, "x") == 7


def test_of_part_of_an_epoch_the_batches_are_extrapolated_and_validations_added() -> None:
    one = Watched(100.0, started(), batches=1000)
    one.progress = [(102.5, 1, 0), (103.0, 51, 0), (103.5, 101, 0)]
    # Built in 2 s, 1000 batches of 10 ms, 10 validations of 3 s, and what the brief trial took beside its fit: 0.5 s.
    assert _seconds(one, brief(), "x") == pytest.approx(2 + 10 + 30 + 0.5)


def test_whole_epochs_include_their_validation_and_leave_out_the_first() -> None:
    one = Watched(100.0, started(), batches=1000)
    one.progress = [(109.0, 1, 0), (110.0, 100, 0), (112.0, 110, 1), (115.0, 210, 2), (118.0, 310, 3)]
    assert _seconds(one, brief(), "x") == pytest.approx(2 + 1000 * 6 / 200 + 0.5)


def test_a_trial_that_logs_once_an_epoch_is_given_time_and_one_that_logs_nothing_is_refused() -> None:
    one = Watched(100.0, started())
    assert not _is_enough(Watched(0.0), 0.0), "it has not begun"
    assert _is_enough(one, 1.0)
    one.progress = [(110.0, 80, 0)]
    one.batches = 800
    assert not _is_enough(Watched(0.0, replace(started(), time=time.time())), 5.0)
    assert _seconds(one, brief(), "x") == pytest.approx(2 + 80 + 30 + 0.5)
    with pytest.raises(ValueError, match="nothing of x was logged"):
        _seconds(Watched(100.0, started(), batches=10), brief(), "x")


def test_the_interval_is_wider_if_trials_differ_and_few_were_measured() -> None:
    assert _half_width([1.0, 9.0], 2) == pytest.approx(0.192, abs=1e-3), "all were measured"
    assert _half_width([5.0, 5.0], 9) == pytest.approx(_half_width([1.0, 9.0], 2))
    assert _half_width([4.0, 6.0], 9) > _half_width([4.0, 6.0, 4.0, 6.0], 9) > 0.192


def test_a_second_whole_epoch_is_waited_for() -> None:
    now = time.time()
    one = Watched(now - 8.0, replace(started(), time=now - 6.0))
    one.progress = [(now - 5.0, 1, 0), (now - 4.0, 50, 0), (now - 3.0, 99, 0)]
    assert _is_enough(one, 5.0)
    one.progress.append((now - 2.0, 101, 1))
    assert not _is_enough(one, 5.0)
    one.progress.append((now - 1.0, 201, 2))
    assert _is_enough(one, 5.0)
