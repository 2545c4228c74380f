import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.driver.replay_comparison import compare, data_differences, last_place, setting_differences
from studies.protocol.events import DataSet, Event, Failed, Fingerprint, Finished, Metrics, Started

NAMES = "net.weight\nnet.bias"


def started(**settings: str) -> Started:
    return Started(1, "host", "cpu", {}, settings=settings)


def training(epochs: int = 3, steps: int = 4, **changed: Any) -> list[Event]:
    """A log; `changed`: what a training that parts in epoch 1 has instead."""
    events: list[Event] = [started(threads="1")]
    for step in range(epochs * steps):
        value = changed.get("value", 0.0) if step >= 6 else 0.0
        events.append(Metrics(step, step // steps, {"train/loss": 1 / (step + 1) + value}, step + 1, step + 1))
        if step % steps == steps - 1:
            epoch, has_parted = step // steps, step >= 6
            weights = "b" * 16 if has_parted and "parts" in changed else "a" * 16
            parts = changed.get("parts", "aaaabbbb") if has_parted else "aaaabbbb"
            samples = changed.get("samples", "5" * 16) if has_parted else "5" * 16
            events.append(Fingerprint(step + 1, epoch, weights, parts, samples, NAMES if epoch == 0 else ""))
    return [*events, Finished({"fit_seconds": changed.get("seconds", 1.0), "test/loss": changed.get("test", 0.5)})]


def test_identical_trainings() -> None:
    found = compare(training(), training(seconds=9.0))
    assert (found.epochs, found.samples, found.values, found.parting) == (3, 3, 12, None)


@pytest.mark.parametrize(
    ("changed", "what", "name", "epoch", "step"),
    [
        ({"value": 1e-9}, "metric", "train/loss", 1, 6),
        ({"parts": "aaaacccc"}, "weights", "net.bias", 1, 8),
        ({"samples": "6" * 16}, "samples", "the order of samples", 1, None),
        ({"value": 1.0, "samples": "6" * 16, "parts": "ccccdddd"}, "samples", "the order of samples", 1, None),
        ({"value": 1.0, "parts": "ccccdddd"}, "metric", "train/loss", 1, 6),
        ({"test": 0.6}, "metric", "test/loss", None, None),
    ],
    ids=str,
)
def test_the_first_place_is_named(
    changed: dict[str, Any], what: str, name: str, epoch: int | None, step: int | None
) -> None:
    parting = compare(training(), training(**changed)).parting
    assert parting is not None
    assert (parting.what, parting.name, parting.epoch, parting.step) == (what, name, epoch, step)


@given(st.integers(0, 11), st.floats(1e-6, 1e6))
def test_whichever_step_parts_is_the_one_that_is_named(step: int, by: float) -> None:
    now = [
        Metrics(event.step, event.epoch, {"train/loss": event.values["train/loss"] + by}, event.done, event.batch)
        if isinstance(event, Metrics) and event.step >= step
        else event
        for event in training()
    ]
    parting = compare(training(), now).parting
    assert parting is not None and parting.step == step
    assert parting.by == pytest.approx(by, rel=1e-3, abs=1e-9)


def test_nan_equals_nan() -> None:
    log = [started(), Metrics(0, 0, {"loss": math.nan}, 1, 1)]
    assert compare(log, log).parting is None


def test_an_interrupted_run_is_compared_up_to_its_end() -> None:
    assert compare(training()[:8], training()).parting is None


def test_an_epoch_that_a_killed_run_trained_twice_counts_once() -> None:
    whole = training()
    killed = [*whole[:8], started(threads="1"), *whole[6:]]
    assert compare(killed, whole).parting is None


def test_a_value_that_the_replay_does_not_log() -> None:
    now = [event for event in training() if not (isinstance(event, Metrics) and event.step == 5)]
    parting = compare(training(), now).parting
    assert parting is not None and (parting.what, parting.name, parting.step) == ("missing", "train/loss", 5)


def test_a_replay_that_fails() -> None:
    now = [*training()[:5], Failed("ValueError: no", "")]
    parting = compare([*training()[:5], Finished({})], now).parting
    assert parting is not None and parting.what == "ending" and "ValueError: no" in parting.name


def test_a_run_of_an_older_version_is_compared_by_its_values() -> None:
    old = [event for event in training() if not isinstance(event, Fingerprint)]
    found = compare(old, training())
    assert (found.epochs, found.values, found.parting) == (0, 12, None)
    assert compare(old, training(value=1.0)).parting is not None


def test_an_order_of_samples_that_one_of_them_does_not_know_is_no_difference() -> None:
    found = compare(training(samples=""), training())
    assert found.parting is None and found.samples == 1


def test_data_and_settings_that_differ_are_named() -> None:
    then = [started(threads="1", CPU="A"), DataSet("train", "x", "aa", "", 10), DataSet("val", "x", "bb", "", 5)]
    now = [started(threads="2", CPU="A"), DataSet("train", "x", "cc", "", 9), DataSet("val", "x", "bb", "", 5)]
    assert data_differences(then, now) == ["the train data differ: 10 samples, now 9 (aa, now cc)"]
    assert setting_differences(then, now) == ["threads: 1, now 2"]
    assert setting_differences(then, then) == data_differences(now, now) == []


def test_the_last_place_of_a_log() -> None:
    assert last_place([]) == 0
    assert last_place(training()[:7]) == 5
