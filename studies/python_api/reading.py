"""`studies.runs`, `compare` and `load`: what is stored, as Python objects."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.cli.commands import find_run, named_run, open_tracking
from studies.common.state_folder import StateFolder
from studies.python_api.import_scope import import_scope

if TYPE_CHECKING:
    import pandas
    from pytorch_lightning import LightningModule

    from studies.tracking.client import Tracking
    from studies.tracking.run_info import RunInfo

MOST = 100_000  # runs of a table


def runs(
    experiment: str | None = None,
    *,
    study: str | None = None,
    where: str = "",
    sort: str = "",
    limit: int = MOST,
) -> pandas.DataFrame:
    """The runs as a table with MLflow's column names, newest first.

    Args:
        experiment: only runs of this experiment.
        study: only runs of this study.
        where: MLflow's filter, e.g. "metrics.`val/accuracy` > 0.98 and params.`model.learning_rate` = '0.01'".
        sort: a metric, parameter or column, as for `harness runs --sort`.
        limit: at most so many runs.

    Returns:
        A row for each run: run_id (the index), name, experiment, study, kind, status, start_time, seconds,
        `metrics.NAME` (last values) and `params.NAME`, numbers where all of them are numbers.

    Raises:
        ValueError: bad input, or there are no runs yet.
    """
    found = _tracking().runs(experiment, study, limit, where, sort)
    return _table(found)


def compare(*run_names: str) -> pandas.DataFrame:
    """Runs side by side: a row for each parameter in which they differ and for each metric, a column for each run.

    Args:
        run_names: ids or unique prefixes, latest, best:STUDY or STUDY/NUMBER.

    Raises:
        ValueError: a run is unknown.
    """
    tracking = _tracking()
    table = _table([find_run(tracking, name) for name in run_names])
    table.index = [run_id[:8] for run_id in table.index]
    differing = [
        name
        for name in table.columns
        if (name.startswith("metrics.") and not name.startswith("metrics.system/"))
        or (name.startswith("params.") and table[name].astype(str).nunique() > 1)
    ]
    return table[["name", "status", *sorted(differing, key=lambda name: name.startswith("metrics."))]].T


def load(run_name: str, *, trust: bool = False) -> LightningModule:
    """A trained module with the weights of its best checkpoint, in eval mode, on the CPU.

    Args:
        run_name: an id or unique prefix, latest, best:STUDY, STUDY/NUMBER, models:/NAME@champion, or the path of a
            checkpoint in a run's folder.
        trust: restore any class that a state folder from elsewhere names.

    Raises:
        ValueError: in one line: there is no such model, or its weights do not fit its class.
    """
    from pytorch_lightning.utilities.seed import isolate_rng

    from studies.inference.predict_worker import restored_parts
    from studies.inference.trained_model import find

    name = run_name if Path(run_name).suffix == ".ckpt" else named_run(run_name)
    with tempfile.TemporaryDirectory(prefix="harness-model-") as scratch:
        trained = find(name, StateFolder.find(), Path(scratch), trust)
        with isolate_rng(), import_scope(trained.experiment, trained.search_path):
            parts = restored_parts(
                trained.experiment, trained.seed, trained.checkpoint, trained.search_path, trained.trusted
            )
    return parts.module.eval()


def _tracking() -> Tracking:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")  # of tqdm, in a notebook without ipywidgets
        return open_tracking()


def _table(found: list[RunInfo]) -> pandas.DataFrame:
    import pandas

    rows: list[dict[str, Any]] = []
    for run in found:
        row: dict[str, Any] = {name: getattr(run, name) for name in ("run_id", "name", "experiment", "study", "kind")}
        row["status"] = run.status.lower()
        row["start_time"] = pandas.Timestamp(run.start_time, unit="s", tz="UTC")
        row["seconds"] = None if run.end_time is None else run.end_time - run.start_time
        row |= {f"metrics.{name}": value for name, value in sorted(run.metrics.items())}
        row |= {f"params.{name}": value for name, value in sorted(run.params.items())}
        rows.append(row)
    table = pandas.DataFrame(rows).set_index("run_id") if rows else pandas.DataFrame()
    for name in [name for name in table.columns if name.startswith("params.")]:
        given = table[name].dropna()
        numbers = pandas.to_numeric(given, errors="coerce")
        if numbers.notna().all():
            table[name] = numbers.reindex(table.index)
    return table
