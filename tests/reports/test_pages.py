"""The pages as HTML: what stands in them, and that nothing of a study is read as markup."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from studies.reports.runs_page import RunReport, runs_page
from studies.reports.study import busy_seconds, chart_data, study_report
from studies.reports.study_page import study_page
from studies.search import TrialRow
from studies.tracking.run_info import RunInfo

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\u202e&amp;"


class FakeStudy:
    def __init__(self, rows: list[TrialRow], space: Any, **definition: Any) -> None:
        self.rows, self.name = rows, "mine"
        self.definition = {
            **{"experiment": {"name": "toy"}, "space": space, "metric": "val/loss", "direction": "minimize", "seed": 3},
            **definition,
        }

    def trials(self) -> list[TrialRow]:
        return self.rows

    def importances(self, most: int) -> dict[str, float]:
        return {"model.rate": 0.75, "model.name": 0.25} if len(self.rows) > 3 else {}


SPACE = {"model.rate": {"low": 1e-4, "high": 1e-1, "log": True}, "model.name": ["a", EVIL]}


def row(number: int, value: float | None, state: str = "COMPLETE", **more: Any) -> TrialRow:
    params = {"model.rate": 10 ** (-1 - number % 3), "model.name": EVIL if number % 2 else "a"}
    return TrialRow(number, state, value, params, f"{number:032x}", 1.5, began=100.0 + number, **more)


def run_info(run_id: str, **more: Any) -> RunInfo:
    values: dict[str, Any] = {"params": {"seed": "7"}, "metrics": {"test/loss": 0.25, "val/loss": 0.5}, **more}
    tags = {"mlflow.source.name": "harness study toy --trials 5", "mlflow.source.git.commit": "abc123"}
    return RunInfo(run_id, "toy", "mine", "trial 0", "trial", "FINISHED", 0.0, 9.0, tags=tags, **values)


def page_of(rows: list[TrialRow], space: Any = SPACE, folder: Path = Path("/nowhere"), **definition: Any) -> str:
    return study_page(study_report(FakeStudy(rows, space, **definition), run_info, "parent", folder.joinpath))  # type: ignore[arg-type]


class Tags(HTMLParser):
    """The elements of a page, its texts, and the JSON of its charts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.scripts: list[str] = []
        self.said = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["script"] and self.lasttag == "script":
            self.scripts[-1] += data
        else:
            self.said += data + "\n"


def test_a_page_has_the_best_trial_its_alarm_its_cost_and_how_to_repeat_it() -> None:
    said = Tags(page_of([row(0, 0.5), row(1, 0.75), row(2, 0.9, "PRUNED"), row(3, None, "FAIL"), row(4, 0.6)])).said
    for text in ("trial 0", "harness train --from mine/0", "harness study toy --trials 5", "abc123", "Leaderboard"):
        assert text in said
    assert "The best rate, 0.1, lies at the upper edge of its range (0.0001 to 0.1)" in said
    assert "3 complete, 1 pruned, 1 failed" in said and "75.0%" in said and "test/loss" in said
    assert "1 trial failed" in said and "no reason is in its log" in said


@pytest.mark.parametrize("where", ["study", "metric", "experiment", "value"])
def test_foreign_text_is_never_markup(where: str) -> None:
    definition: dict[str, Any] = {}
    if where == "metric":
        definition["metric"] = EVIL
    if where == "experiment":
        definition["experiment"] = {"name": EVIL}
    study = FakeStudy([row(number, 0.5) for number in range(4)], SPACE, **definition)
    study.name = EVIL if where == "study" else "mine"
    page = study_page(study_report(study, run_info, "parent", Path("/nowhere").joinpath))  # type: ignore[arg-type]
    tags = Tags(page)
    assert tags.tags.count("script") == 2 and "img" not in tags.tags
    assert not any(name.startswith("on") for name, _ in tags.attributes)
    assert "\x1b" not in page and "\u202e" not in page


def test_errors_of_trials_and_names_of_runs_are_text(tmp_path: Path) -> None:
    from studies.protocol.event_log import NAME, EventWriter
    from studies.protocol.events import Failed

    bad = row(0, None, "FAIL")
    (tmp_path / str(bad.run_id)).mkdir()
    log = EventWriter(tmp_path / str(bad.run_id) / NAME)
    log.append(Failed(f"ValueError: {EVIL}", EVIL))
    log.close()
    page = page_of([bad], folder=tmp_path)
    assert "ValueError: &lt;/script&gt;" in page and Tags(page).tags.count("script") == 2
    named = RunInfo("a" * 32, EVIL, None, EVIL, "", "FINISHED", 0.0, params={EVIL: EVIL}, metrics={EVIL: 1.0})
    page = runs_page([RunReport(named, {EVIL: ([0, 1], [1.0, 2.0])})])
    assert Tags(page).tags.count("script") == 2 and "img" not in Tags(page).tags


def test_a_page_loads_nothing() -> None:
    tags = Tags(page_of([row(0, 0.5), row(1, 0.4)]))
    assert not {"src", "href", "srcset", "action"} & {name for name, _ in tags.attributes}
    policies = [value for name, value in tags.attributes if name == "content" and value and "default-src" in value]
    assert len(policies) == 1 and policies[0].startswith("default-src 'none'")  # type: ignore[union-attr]
    assert not re.search(r"url\(|@import", page_of([]))


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row(0, None, "RUNNING")],
        [row(0, None, "FAIL")],
        [row(0, math.inf), row(1, math.nan), row(2, -math.inf)],
        [row(0, 1e300), row(1, 0.5)],
        [TrialRow(0, "COMPLETE", 0.5)],
        [TrialRow(0, "COMPLETE", 0.5, {"model.rate": None}, None), TrialRow(1, "WAITING", None)],
    ],
)
def test_every_study_has_a_page_with_strict_json(rows: list[TrialRow]) -> None:
    page = page_of(rows)
    data = json.loads(Tags(page).scripts[0], parse_constant=lambda name: pytest.fail(name))
    assert data["trials"]["number"] == [row.number for row in rows]


def test_values_of_a_space_that_is_a_function_are_shown_too() -> None:
    data = chart_data(study_report(FakeStudy([row(0, 0.5), row(1, 0.4)], "mine:space"), run_info, None, Path))  # type: ignore[arg-type]
    assert [item["short"] for item in data["parameters"]] == ["rate", "name"]
    assert data["parameters"][0]["values"] == [0.1, 0.01] and data["best"] == 1


def test_a_study_of_several_objectives_has_its_front() -> None:
    values = [(0.5, 9.0), (0.4, 100.0), (0.6, 50.0)]  # the third one is dominated
    rows = [row(number, value, further={EVIL: other}) for number, (value, other) in enumerate(values)]
    page = page_of(rows, further={EVIL: "minimize"})
    tags = Tags(page)
    data = json.loads(tags.scripts[0])
    assert data["front"] == [0, 1] and data["further"][0]["values"] == [9.0, 100.0, 50.0]
    assert "Pareto front" in tags.said and tags.tags.count("script") == 2 and "img" not in tags.tags
    assert "<h2>Pareto front</h2>" not in page_of([row(0, 0.5)])


def test_ten_thousand_trials_are_a_small_page() -> None:
    rows = [row(number, 1 / (1 + number)) for number in range(10_000)]
    assert len(page_of(rows).encode()) < 3_000_000


def test_breaks_between_two_commands_are_no_time_of_a_study() -> None:
    rows = [
        TrialRow(0, "COMPLETE", 1.0, seconds=10.0, began=100.0),
        TrialRow(1, "FAIL", None, seconds=10.0, began=105.0),
    ]
    assert busy_seconds([*rows, TrialRow(2, "COMPLETE", 1.0, seconds=5.0, began=9000.0)]) == 20.0


def test_runs_side_by_side_show_what_differs() -> None:
    reports = [
        RunReport(run_info("a" * 32, params={"seed": "1", "model.rate": "0.1"}), {"val/loss": ([0, 9], [1.0, 0.5])}),
        RunReport(run_info("b" * 32, params={"seed": "2", "model.rate": "0.1"}), {"val/loss": ([0, 9], [1.0, 0.6])}),
    ]
    tags = Tags(runs_page(reports))
    assert "seed" in tags.said and "model.rate" not in tags.said
    assert "harness train --from aaaaaaaa" in tags.said and "test/loss" in tags.said
    (chart,) = json.loads(tags.scripts[0])["lines"]
    assert [line["name"] for line in chart["series"]] == ["trial 0 · aaaaaaaa", "trial 0 · bbbbbbbb"]
