"""The end of a study: ranks, leaderboard, pictures and champion, the only trial evaluated on the test set."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studies.common.atomic_files import write_whole
from studies.common.errors import disk_is_full, in_one_line
from studies.common.objective import rank_key
from studies.common.regular_files import files_in, read_text
from studies.config.search_space import Choice, Range
from studies.driver.loop import TrialLoop
from studies.driver.study import Study
from studies.plots import study as study_plots
from studies.plots.figure import save
from studies.protocol.metric_names import registered_name
from studies.search import FANOVA_TRIALS, TrialRow, best_of, load_importances

DRAWN_STATES = ("COMPLETE", "PRUNED")


def prepare() -> None:
    """Imports on a thread what `conclude` needs: it costs a CPU second, which is idle at the start of a study."""

    def work() -> None:
        load_importances()
        study_plots.load_interactive()

    threading.Thread(target=work, name="conclusion").start()  # no daemon: exiting amid an import would crash


def conclude(study: Study, loop: TrialLoop) -> dict[str, Any]:
    """After the last trial: ranks, leaderboard, pictures and champion, the only trial evaluated on the test set."""
    session, plan = study.session, study.plan
    rows = study.search.trials()
    best = best_of(rows, plan.direction)
    session.display.phase("ranking trials and drawing the study's pictures")
    _rank(study, rows)
    try:
        _draw(study, rows)
    except Exception as error:  # the results are complete without pictures
        if disk_is_full(error):
            raise
        session.display.say(f"the study's pictures could not be drawn: {type(error).__name__}: {in_one_line(error)}")
    test: dict[str, float] = {}
    if best is not None and best.value is not None:
        session.tracking.soon.log_metrics(study.parent, {f"best/{plan.metric}": best.value})
    if best is not None and best.run_id is not None and not loop.signal and session.options.test:
        session.display.phase("testing and registering the champion")
        test = _champion(study, best)
    interrupted = bool(loop.signal or loop.timed_out)
    outcome = "interrupted" if interrupted else None
    session.tracking.soon.end(study.parent, "KILLED" if interrupted else "FINISHED", outcome)
    return {
        "study": study.name,
        "trials": [row.to_json() for row in rows],
        "best": {key: best.to_json()[key] for key in ("number", "value", "params", "run_id")} if best else None,
        "test": test,
        "metric": plan.metric,
        "direction": plan.direction,
    }


def _rank(study: Study, rows: list[TrialRow]) -> None:
    complete = [row for row in rows if row.state == "COMPLETE" and row.value is not None]
    ranked = sorted(complete, key=lambda row: rank_key(row.value or 0.0, row.number, study.plan.direction))
    ranks = {row.run_id: rank for rank, row in enumerate(ranked, start=1) if row.run_id is not None}
    study.session.tracking.soon.rank(study.experiment_id, study.name, ranks)
    placed = {row.number for row in ranked}
    rest = [row for row in rows if row.number not in placed]
    names = sorted({name for row in rows for name in row.params})
    everyone = [*ranked, *rest]
    columns: dict[str, list[Any]] = {
        "rank": [*range(1, len(ranked) + 1), *[None] * len(rest)],
        "trial": [row.number for row in everyone],
        "state": [row.state for row in everyone],
        study.plan.metric: [row.value for row in everyone],
        **{name: [str(row.params.get(name)) for row in everyone] for name in names},
        "run_id": [row.run_id for row in everyone],
    }
    study.session.tracking.soon.log_table(study.parent, columns, "leaderboard.json")


def _draw(study: Study, rows: list[TrialRow]) -> None:
    """History, parallel coordinates, importance, slices; each is left out if there are too few trials for it.

    They are not drawn again for the same trials: with thousands of trials it takes many seconds.
    """
    shown = [row for row in rows if row.state in DRAWN_STATES and row.value is not None]
    folder = study.parent_folder / "artifacts" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    plan = study.plan
    if not shown:
        return
    drawn = study.parent_folder / "pictures.sha256"
    digest = hashlib.sha256(
        repr([(row.number, row.state, row.value, row.params) for row in shown]).encode()
    ).hexdigest()
    with contextlib.suppress(OSError, ValueError):
        if read_text(drawn) == _with_files(digest, folder):
            study.session.tracking.soon.log_files(study.parent, folder, "pictures")
            return
    log = {
        name
        for name, parameter in (plan.space.items() if isinstance(plan.space, dict) else ())
        if (isinstance(parameter, Range) and parameter.log) or _spans_decades(parameter)
    }
    names = [name for name in shown[0].params if all(name in row.params for row in shown)]
    params: dict[str, Sequence[Any]] = {name: [row.params[name] for row in shown] for name in names}
    values = [row.value for row in shown if row.value is not None]
    figures = {
        "history": study_plots.study_history(
            [row.number for row in shown], values, [row.state for row in shown], plan.metric, plan.direction
        )
    }
    if params:
        figures["parallel_coordinates"] = study_plots.parallel_coordinates(
            params, values, plan.metric, plan.direction, log
        )
        figures["slices"] = study_plots.slices(params, values, plan.metric, log, plan.direction)
        interactive = study_plots.interactive_parallel_coordinates(params, values, plan.metric, plan.direction, log)
        interactive.write_html(folder / "parallel_coordinates.html", include_plotlyjs=True)
    importances = study.search.importances()
    if importances:
        complete = sum(row.state == "COMPLETE" for row in rows)
        looked_at = min(complete, FANOVA_TRIALS), complete
        figures["importance"] = study_plots.importance(importances, plan.metric, looked_at)
    for name, figure in figures.items():
        save(figure, folder / f"{name}.png")
    study.session.tracking.soon.log_files(study.parent, folder, "pictures")
    write_whole(drawn, _with_files(digest, folder))


def _with_files(digest: str, folder: Path) -> str:
    """A digest of the trials that were drawn, and the sizes of the pictures, one of which may have been lost since."""
    sizes = sorted(f"{name} {size}" for name, size in files_in(folder).items())
    return "\n".join([digest, *sizes])


def _spans_decades(parameter: Range | Choice) -> bool:
    """Whether a list of numbers (batch sizes) reads best on a logarithmic axis."""
    if not isinstance(parameter, Choice):
        return False
    numbers = [value for value in parameter.values if isinstance(value, int | float) and not isinstance(value, bool)]
    return len(numbers) == len(parameter.values) and min(numbers) > 0 and max(numbers) >= 8 * min(numbers)


def _champion(study: Study, best: TrialRow) -> dict[str, float]:
    """Tests the best trial's checkpoint and registers it, unless the study has done so already."""
    session = study.session
    assert best.run_id is not None
    requirements = [f"{name}=={importlib.metadata.version(name)}" for name in ("torch", "numpy")]
    payload = {
        "spec": str(session.state_folder.trial_folder(best.run_id) / "spec.json"),
        "tracking_uri": session.state_folder.tracking_uri,
        "parent": study.parent,
        "model_name": registered_name(study.experiment.name),
        "study": study.name,
        "value": best.value,
        "metric": study.plan.metric,
        "direction": study.plan.direction,
        "requirements": requirements,
        "search_path": study.experiment.search_path,
    }
    session.tracking.now.flush()  # from here until it returns, the champion's process is the only writer
    try:
        result = session.executor.call("studies.inference.register_worker:publish", payload, session.display.refresh)
    except RuntimeError as error:
        result = {"error": str(error)}
    if "error" in result:
        session.display.say(f"the champion could not be published: {result['error']}")
        session.tracking.soon.set_tags(study.parent, {"harness.error": result["error"]})
        return {}
    if result.get("note"):
        session.display.say(result["note"])
    return result["test"]
