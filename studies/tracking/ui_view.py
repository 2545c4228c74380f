"""A prepared view of an experiment in MLflow's UI: the experiment tag that stores it and the URL that opens it.

The UI keeps a named view (its menu "Views") in a tag `mlflow.sharedViewState.<key>` as JSON: an envelope with
the view's name and, as nested JSON, the page's state. The format is taken from the source of MLflow 3.17's UI;
tests/e2e/test_browser.py opens a view in a browser.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from studies.protocol.metric_names import EXPERIMENT_TAG_LENGTH, metric_name, param_key

KEY = "harness"  # one view per experiment, overwritten each time, so that its URL stays the same
NAME = "studies, best first"
TRIALS_OF = "harness.trials_of"  # tag of trials alone: the study's own run would stand among its trials
DURATION = "attributes.`Duration`"
WIDTHS = {"metrics": 140, "params": 130, "attributes": 90}  # pixels; the UI shows all digits of a number
CHARTS = "all trials"  # a section of charts


@dataclass(frozen=True)
class View:
    """A view of an experiment.

    Attributes:
        tag_key: the experiment tag that holds it.
        tag_value: the view; MLflow's limit is 20000 characters.
        path: its URL path, from "#/" on.
    """

    tag_key: str
    tag_value: str
    path: str


def run_page(experiment_id: str, run_id: str) -> str:
    """The URL path of a run in MLflow's UI, from "#/" on."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def prepared_view(
    experiment_id: str, metric: str | None, direction: str, parameters: Sequence[str], logged: Sequence[str] = ()
) -> View:
    """The view `harness ui` opens: runs grouped by study, best first, with the searched parameters.

    The UI nests child runs under their parent only when sorted by start time. When sorted by a metric it can still
    group runs by a tag, so this view groups by study. Each study can be collapsed and shows its best value; studies
    and their runs are sorted; single runs, and the studies' own, follow as "Additional runs". The chart view has an
    additional chart: parallel coordinates of the searched parameters and the metric.

    Args:
        experiment_id: MLflow's id of the experiment.
        metric: MLflow metric to sort by, like best/val/accuracy. None: newest first, children under their parents.
        direction: maximize or minimize the metric.
        parameters: dotted names of the parameters to show as columns, like model.learning_rate; only the first of
            very many.
        logged: names of the metrics that trials log; two more of them are columns, and their charts come first.

    Raises:
        ValueError: unknown direction.
    """
    if direction not in ("maximize", "minimize"):
        raise ValueError(f"direction must be maximize or minimize, but got direction={direction}")
    metric = None if metric is None else metric_name(metric)
    parameters = [param_key(name) for name in parameters]
    logged = list(dict.fromkeys(map(metric_name, logged)))
    view = _view(experiment_id, metric, direction, parameters, logged)
    while len(view.tag_value) > EXPERIMENT_TAG_LENGTH and (parameters or logged):
        parameters, logged = parameters[: len(parameters) // 2], logged[: len(logged) // 2]
        view = _view(experiment_id, metric, direction, parameters, logged)
    return view


def _view(
    experiment_id: str, metric: str | None, direction: str, parameters: Sequence[str], logged: Sequence[str]
) -> View:
    columns = [_column("params", name) for name in parameters]
    state: dict[str, Any] = {"searchFilter": "", "startTime": "ALL", "lifecycleFilter": "Active"}
    if metric is None:
        state |= {"orderByKey": "attributes.start_time", "orderByAsc": False}
    else:
        columns = [*(_column("metrics", name) for name in _value_columns(metric, logged)), DURATION, *columns]
        state |= {"orderByKey": _column("metrics", metric), "orderByAsc": direction == "minimize"}
        state |= _grouped_by_study(direction) | _charts(metric, parameters, logged)
    state |= {
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {name: WIDTHS.get(name.partition(".")[0], 150) for name in columns},
        "runsHiddenMode": "SHOW_ALL",  # in charts; the default is the first ten runs
    }
    # createdAt must be a number; a constant makes the tag reproducible.
    envelope = {"name": NAME, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state, separators=(",", ":"))}
    return View(
        tag_key=f"mlflow.sharedViewState.{KEY}",
        tag_value=json.dumps(envelope),
        path=view_path(experiment_id),
    )


def view_path(experiment_id: str, mode: str = "TABLE") -> str:
    """URL path of an experiment's prepared view; `mode` is TABLE or CHART.

    It must not contain sorting or filters, or the UI ignores the stored view.
    """
    place = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    return f"{place}&viewStateShareKey={KEY}&compareRunsMode={mode}"


def _column(kind: str, name: str) -> str:
    """The UI's name of a column or sort key: metrics.`val/accuracy`."""
    return f"{kind}.`{name}`"


def _value_columns(metric: str, logged: Sequence[str]) -> list[str]:
    """The metric, another one of its split (its loss, if it has one), and the same in the test.

    Args:
        metric: like best/val/accuracy.
    """
    own = metric.removeprefix("best/")
    split, _, last = own.rpartition("/")
    others = sorted((name for name in logged if name.rpartition("/")[0] == split and name != own), key=_is_no_loss)
    return list(dict.fromkeys([metric, *others[:1], f"test/{last}"]))


def _is_no_loss(name: str) -> bool:
    return "loss" not in name


def _grouped_by_study(direction: str) -> dict[str, Any]:
    return {
        "groupBy": {
            "aggregateFunction": "max" if direction == "maximize" else "min",  # shown in a study's own row
            "groupByKeys": [{"mode": "tag", "groupByData": TRIALS_OF}],
        },
        "groupsExpanded": {f"tag.{TRIALS_OF}": True},  # runs without a study; studies are expanded anyway
        "useGroupedValuesInCharts": False,  # charts draw runs, not studies
    }


def _charts(metric: str, parameters: Sequence[str], logged: Sequence[str]) -> dict[str, Any]:
    """Our one chart; the UI adds a chart for each metric, in the section of its prefix.

    The sections of this list keep their order: the metric's own split first. The UI appends others, like best/val.
    """
    chart = {
        "type": "PARALLEL",
        "uuid": f"{KEY}-parallel-coordinates",
        "metricSectionId": f"{KEY}-trials",
        "displayName": "Searched parameters and the metric",
        "selectedParams": list(parameters),
        "selectedMetrics": [metric],
        "showAllRuns": False,  # True would also draw runs without a value
        "runsCountToCompare": 10,
        "deleted": False,
        "isGenerated": False,
    }
    own = metric.removeprefix("best/").rpartition("/")[0]
    splits = sorted({name.rpartition("/")[0] for name in logged} - {""}, key=lambda split: (split != own, split))
    names = {f"{KEY}-trials": CHARTS, **{f"{KEY}-{split}": split for split in splits}}
    names |= {f"{KEY}-model": "Model metrics", f"{KEY}-system": "System metrics"}
    sections = [
        {"uuid": uuid, "name": name, "display": True, "isReordered": False, "deleted": False, "isGenerated": False}
        for uuid, name in names.items()
    ]
    sections[0] |= {"columns": 1, "cardHeight": 400}  # wide: one axis for each parameter
    return {"compareRunCharts": [chart], "compareRunSections": sections, "isAccordionReordered": True}
