from __future__ import annotations

import math
from pathlib import Path

from studies.protocol.event_log import NAME, EventWriter
from studies.protocol.events import Event, Metrics, Report
from studies.reports import curves
from studies.reports.curves import bands, line_charts, logged_series, reported_values, thinned


def logged(folder: Path, *events: Event) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    log = EventWriter(folder / NAME)
    for event in events:
        log.append(event)
    log.close()
    return folder


def test_bands_are_quantiles_over_the_trials_that_got_so_far() -> None:
    found = bands({0: [1.0, 2.0, 3.0], 1: [3.0, 4.0], 2: [2.0, 6.0]}, 0, "maximize")
    assert found is not None
    band = found["band"]
    assert band["step"] == [1, 2, 3] and band["trials"] == [3, 3, 1]
    assert band["low"] == [1, 2, 3] and band["median"] == [2, 4, 3] and band["high"] == [3, 6, 3]
    assert found["best"] == {"trial": 0, "values": [1, 2, 3]} and found["of"] == 3


def test_bands_leave_out_what_cannot_be_drawn() -> None:
    found = bands({0: [math.nan, 0.5, math.inf], 1: [0.25, 0.75, math.inf]}, 1, "minimize")
    assert found is not None and found["band"]["step"] == [1, 2] and found["band"]["trials"] == [1, 2]
    assert bands({}, None, "minimize") is None and bands({0: [1.0], 1: [2.0]}, 0, "minimize") is None
    assert bands({0: [math.nan, math.nan]}, 0, "minimize") is None


def test_the_best_and_the_median_are_never_beyond_the_axis() -> None:
    reports = {trial: [9.0, 1 + trial / 100, 0.5 + trial / 1000] for trial in range(20)} | {20: [900.0, 900.0, 900.0]}
    found = bands(reports, 3, "minimize")
    assert found is not None and found["range"]["high"] == 9.0, "the diverged trial is"


def test_thousands_of_steps_and_trials_stay_small() -> None:
    found = bands({trial: [float(step) for step in range(5000)] for trial in range(100)}, 0, "maximize")
    assert found is not None
    assert len(found["band"]["step"]) == curves.MOST_STEPS and found["band"]["step"][-1] == 5000
    assert len(found["lines"]) == curves.MOST_THREADS


def test_reports_are_read_from_logs_without_those_that_a_resumed_trial_repeats(tmp_path: Path) -> None:
    first = logged(
        tmp_path / "a", *(Report(step, 0, value) for step, value in [(5, 0.5), (10, 0.4), (10, 0.4), (15, 0.3)])
    )
    assert reported_values({7: first, 8: tmp_path / "missing"}) == {7: [0.5, 0.4, 0.3]}


def test_of_large_logs_a_sample_is_read_with_the_best(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    folders = {trial: logged(tmp_path / str(trial), Report(1, 0, 0.5), Report(2, 1, 0.5)) for trial in range(20)}
    monkeypatch.setattr(curves, "MOST_BYTES", 3 * (folders[0] / NAME).stat().st_size)
    found = reported_values(folders, first=13)
    assert 13 in found and 3 <= len(found) <= 5


def test_a_runs_metrics_are_those_of_its_log(tmp_path: Path) -> None:
    folder = logged(
        tmp_path, Metrics(0, 0, {"train/loss": 2.0, "epoch": 0}), Metrics(9, 0, {"train/loss": 1.0, "val/loss": 1.5})
    )
    assert logged_series(folder) == {"train/loss": ([0, 9], [2.0, 1.0]), "val/loss": ([9], [1.5])}
    assert logged_series(tmp_path / "none") == {}


def test_train_and_val_of_one_run_share_a_chart_and_several_runs_have_one_for_each_metric() -> None:
    series = {"train/loss": ([0, 1], [2.0, 1.0]), "val/loss": ([0, 1], [3.0, 2.0]), "val/once": ([1], [1.0])}
    (chart,) = line_charts([("", series)], by_split=True)
    assert chart["title"] == "loss" and [line["name"] for line in chart["series"]] == ["train", "val"]
    several = line_charts([("a", series), ("b", series)])
    assert [chart["title"] for chart in several] == ["val/loss", "train/loss"]
    assert [line["name"] for line in several[0]["series"]] == ["a", "b"]


def test_values_of_several_decades_have_a_logarithmic_axis() -> None:
    (chart,) = line_charts([("a", {"loss": ([0, 1, 2], [100.0, 0.1, 0.0])})])
    assert not chart["log"], "it has a zero"
    (chart,) = line_charts([("a", {"loss": ([0, 1], [100.0, 0.1])})])
    assert chart["log"] and chart["range"] == {"low": 0.1, "high": 100.0}


def test_thinning_keeps_spikes() -> None:
    values = [0.0] * 10_000
    values[7777] = 5.0
    x, y = thinned(range(10_000), values)
    assert len(x) <= curves.MOST_POINTS and max(value for value in y if value is not None) == 5.0
    assert (x[0], x[-1]) == (0, 9999)
