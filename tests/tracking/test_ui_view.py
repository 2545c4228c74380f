"""The prepared view, as text. tests/e2e/test_browser.py opens it in MLflow's UI."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studies.tracking.ui_view import View, prepared_view

NAMES = st.lists(
    st.from_regex(r"(model|data|trainer)\.[a-z_]{1,30}", fullmatch=True), min_size=1, max_size=12, unique=True
)


def state_of(view: View) -> dict[str, Any]:
    """The page's state, extracted as in the UI: JSON within an envelope of name, createdAt and state."""
    envelope = json.loads(view.tag_value)
    assert isinstance(envelope["name"], str) and isinstance(envelope["createdAt"], int)
    return json.loads(envelope["state"])


@settings(deadline=None, max_examples=25)
@given(parameters=NAMES, direction=st.sampled_from(["maximize", "minimize"]))
def test_shows_the_metric_and_every_searched_parameter(parameters: list[str], direction: str) -> None:
    view = prepared_view("7", "best/val/loss", direction, parameters)
    state = state_of(view)
    values = ["metrics.`best/val/loss`", "metrics.`test/loss`", "attributes.`Duration`"]
    assert state["selectedColumns"] == [*values, *(f"params.`{name}`" for name in parameters)]
    [chart] = state["compareRunCharts"]
    assert (chart["type"], chart["selectedParams"]) == ("PARALLEL", parameters)
    assert chart["selectedMetrics"] == ["best/val/loss"]
    assert len(view.tag_value) <= 20000  # MLflow's limit of an experiment tag


@pytest.mark.parametrize(("direction", "ascending", "best"), [("maximize", False, "max"), ("minimize", True, "min")])
def test_puts_the_best_first(direction: str, ascending: bool, best: str) -> None:
    state = state_of(prepared_view("7", "best/val/accuracy", direction, ["model.learning_rate"]))
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`best/val/accuracy`", ascending)
    assert state["groupBy"]["aggregateFunction"] == best
    assert state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "harness.trials_of"}]


def test_without_a_metric_the_table_keeps_children_under_parents() -> None:
    """The UI only nests runs if sorted by start time and ungrouped."""
    state = state_of(prepared_view("7", None, "maximize", ["model.learning_rate"]))
    assert state["orderByKey"] == "attributes.start_time"
    assert "groupBy" not in state
    assert state["selectedColumns"] == ["params.`model.learning_rate`"]


def test_the_chart_is_in_an_existing_section() -> None:
    state = state_of(prepared_view("7", "best/val/accuracy", "maximize", ["model.learning_rate"]))
    sections = {section["uuid"]: section["name"] for section in state["compareRunSections"]}
    assert state["compareRunCharts"][0]["metricSectionId"] in sections
    assert {"Model metrics", "System metrics"} <= set(sections.values())  # else the UI would drop these two


LOGGED = ["train/accuracy", "train/loss", "val/roc_auc", "val/accuracy", "val/loss", "epoch"]


@pytest.mark.parametrize(
    ("metric", "logged", "columns"),
    [
        ("val/accuracy", LOGGED, ["best/val/accuracy", "val/loss", "test/accuracy"]),
        ("val/loss", LOGGED, ["best/val/loss", "val/roc_auc", "test/loss"]),
        ("val_loss", ["val_loss", "val_acc"], ["best/val_loss", "val_acc", "test/val_loss"]),
        ("val/loss", [], ["best/val/loss", "test/loss"]),
    ],
)
def test_values_stand_beside_the_parameters(metric: str, logged: list[str], columns: list[str]) -> None:
    state = state_of(prepared_view("7", f"best/{metric}", "maximize", ["model.a"], logged))
    values = [f"metrics.`{name}`" for name in columns]
    assert state["selectedColumns"] == [*values, "attributes.`Duration`", "params.`model.a`"]
    assert set(state["columnWidths"]) == set(state["selectedColumns"])


def test_charts_begin_with_the_metrics_own_split_and_end_with_what_has_no_name() -> None:
    state = state_of(prepared_view("7", "best/val/accuracy", "maximize", ["model.a"], LOGGED))
    names = [section["name"] for section in state["compareRunSections"]]
    assert names == ["all trials", "val", "train", "Model metrics", "System metrics"]
    assert state["isAccordionReordered"], "else the UI sorts them by name, and best/... is first"


def test_the_address_opens_the_stored_view_as_model_training() -> None:
    view = prepared_view("7", "best/val/accuracy", "maximize", [])
    key = view.tag_key.removeprefix("mlflow.sharedViewState.")
    assert view.path.startswith("#/experiments/7/runs?workflowType=machine_learning")
    assert f"viewStateShareKey={key}" in view.path
    # Any of these in the URL would make the UI ignore the stored view.
    assert not any(word in view.path for word in ("orderBy", "searchFilter", "startTime", "lifecycleFilter"))


def test_the_same_view_is_the_same_tag() -> None:
    assert prepared_view("7", "a", "maximize", ["b"]) == prepared_view("7", "a", "maximize", ["b"])


def test_an_unknown_direction_is_rejected() -> None:
    with pytest.raises(ValueError, match="direction must be maximize or minimize, but got direction=up"):
        prepared_view("7", "best/val/accuracy", "up", [])


def test_odd_names_and_very_many_parameters() -> None:
    view = prepared_view("1", "best/val//a`b", "minimize", [f"model.parameter_{number}" for number in range(3000)])
    assert len(view.tag_value) <= 20_000
    state = json.loads(json.loads(view.tag_value)["state"])
    assert (
        state["orderByKey"] == "metrics.`best/val/_/a_b`" and "params.`model.parameter_0`" in state["selectedColumns"]
    )
