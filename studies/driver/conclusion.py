"""The end of a study: ranks, leaderboard, pictures and champion, the only trial evaluated on the test set."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.common.atomic_files import write_whole
from studies.common.errors import disk_is_full, in_one_line
from studies.common.regular_files import files_in, read_text
from studies.config.search_space import Range
from studies.driver.loop import TrialLoop
from studies.driver.publishing import publish
from studies.driver.study import Study
from studies.plots import pareto
from studies.plots import study as study_plots
from studies.plots.figure import save
from studies.reports.study import study_report
from studies.reports.study_page import parallel_page, study_page
from studies.reports.values import is_logarithmic
from studies.search import (
    FANOVA_TRIALS,
    TrialRow,
    best_of,
    front_of,
    hypervolume_history,
    load_importances,
    ranked,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT = "report.html"
DRAWN_STATES = ("COMPLETE", "PRUNED")


def prepare() -> None:
    """Imports on a thread what `conclude` needs: it costs a CPU second, which is idle at the start of a study."""

    threading.Thread(
        target=load_importances, name="conclusion"
    ).start()  # no daemon: exiting amid an import would crash


def conclude(study: Study, loop: TrialLoop) -> dict[str, Any]:
    """After the last trial: ranks, leaderboard, pictures and champion, the only trial evaluated on the test set."""
    session, plan = study.session, study.plan
    rows = study.search.trials()
    best = best_of(rows, plan.objectives)
    session.display.phase("ranking trials and drawing the study's pictures")
    _rank(study, rows)
    importances = None
    with _dispensable(study, "pictures"):
        importances = _draw(study, rows)
    test: dict[str, float] = {}
    if best is not None and best.value is not None:
        values = {plan.metric: best.value, **best.further}
        session.tracking.soon.log_metrics(study.parent, {f"best/{name}": value for name, value in values.items()})
    if best is not None and best.run_id is not None and not loop.signal and session.options.test and _has_model(study):
        session.display.phase("testing and registering the champion")
        test = _champion(study, best)
    with _dispensable(study, "report"):
        _report(study, rows, test, importances)
    interrupted = bool(loop.signal or loop.timed_out)
    outcome = "interrupted" if interrupted else None
    session.tracking.soon.end(study.parent, "KILLED" if interrupted else "FINISHED", outcome)
    return {
        "study": study.name,
        "run_id": study.parent,
        "page": study.page,
        "trials": [row.to_json() for row in rows],
        "best": {key: value for key, value in best.to_json().items() if key != "state"} if best else None,
        "test": test,
        "metric": plan.metric,
        "direction": plan.direction,
        "further": plan.further,
        "front": [row.number for row in front_of(rows, plan.objectives)] if plan.further else [],
    }


def _has_model(study: Study) -> bool:
    return study.experiment.model is not None  # a function keeps what it likes


@contextlib.contextmanager
def _dispensable(study: Study, what: str) -> Iterator[None]:
    """Lets a study end without its pictures or its report if these cannot be drawn: its results are complete."""
    try:
        yield
    except Exception as error:
        if disk_is_full(error):
            raise
        said = f"{type(error).__name__}: {in_one_line(error)}"
        study.session.display.say(f"the study's {what} could not be drawn: {said}")


def _rank(study: Study, rows: list[TrialRow]) -> None:
    best_first = ranked(rows, study.plan.objectives)
    ranks = {row.run_id: rank for rank, row in enumerate(best_first, start=1) if row.run_id is not None}
    study.session.tracking.soon.rank(study.experiment_id, study.name, ranks)
    placed = {row.number for row in best_first}
    rest = [row for row in rows if row.number not in placed]
    names = sorted({name for row in rows for name in row.params})
    everyone = [*best_first, *rest]
    front = {row.number for row in front_of(rows, study.plan.objectives)} if study.plan.further else set()
    columns: dict[str, list[Any]] = {
        "rank": [*range(1, len(best_first) + 1), *[None] * len(rest)],
        "trial": [row.number for row in everyone],
        "state": [row.state for row in everyone],
        **({"pareto_front": [row.number in front for row in everyone]} if study.plan.further else {}),
        study.plan.metric: [row.value for row in everyone],
        **{name: [row.further.get(name) for row in everyone] for name in study.plan.further},
        **{name: [str(row.params.get(name)) for row in everyone] for name in names},
        "run_id": [row.run_id for row in everyone],
    }
    study.session.tracking.soon.log_table(study.parent, columns, "leaderboard.json")


def _draw(study: Study, rows: list[TrialRow]) -> dict[str, float] | None:
    """History, parallel coordinates, importance, slices; each is left out if there are too few trials for it.

    They are not drawn again for the same trials: with thousands of trials it takes many seconds.

    Returns:
        The importances, if they were computed.
    """
    shown = [row for row in rows if row.state in DRAWN_STATES and row.value is not None]
    folder = study.parent_folder / "artifacts" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    plan = study.plan
    if not shown:
        return None
    drawn = study.parent_folder / "pictures.sha256"
    digest = _digest(shown)
    with contextlib.suppress(OSError, ValueError):
        if read_text(drawn) == _with_files(digest, folder):
            study.session.tracking.soon.log_files(study.parent, folder, "pictures")
            return None
    space = plan.space if isinstance(plan.space, dict) else {}
    log = {name for name, parameter in space.items() if is_logarithmic(parameter)}
    ends = {name: (entry.low, entry.high) for name, entry in space.items() if isinstance(entry, Range)}
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
            params, values, plan.metric, plan.direction, log, ends
        )
        figures["slices"] = study_plots.slices(params, values, plan.metric, log, plan.direction, ends)
        page = parallel_page(shown, plan.metric, plan.direction, space)
        write_whole(folder / "parallel_coordinates.html", page)
    if plan.further:
        figures |= _pareto_figures(study, rows)
    importances = study.search.importances()
    if importances:
        complete = sum(row.state == "COMPLETE" for row in rows)
        looked_at = min(complete, FANOVA_TRIALS), complete
        figures["importance"] = study_plots.importance(importances, plan.metric, looked_at)
    for name, figure in figures.items():
        save(figure, folder / f"{name}.png")
    study.session.tracking.soon.log_files(study.parent, folder, "pictures")
    write_whole(drawn, _with_files(digest, folder))
    return importances


def _report(study: Study, rows: list[TrialRow], test: dict[str, float], importances: dict[str, float] | None) -> None:
    """The page about the study among its artifacts; not written again for the same trials."""
    path, drawn = study.parent_folder / "artifacts" / REPORT, study.parent_folder / "report.sha256"
    digest = _digest(rows, test)
    with contextlib.suppress(OSError, ValueError):
        if read_text(drawn) == digest and path.is_file():
            study.session.tracking.soon.log_files(study.parent, path)
            return
    session = study.session
    run, folder_of = session.tracking.now.run, session.state_folder.trial_folder
    found = study_report(study.search, run, study.parent, folder_of, importances)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, study_page(found))
    session.tracking.soon.log_files(study.parent, path)
    write_whole(drawn, digest)


def _digest(rows: list[TrialRow], more: object = None) -> str:
    known = [(row.number, row.state, row.value, row.params, *row.further.values()) for row in rows]
    return hashlib.sha256(repr(known if more is None else [known, more]).encode()).hexdigest()


def _pareto_figures(study: Study, rows: list[TrialRow]) -> dict[str, Figure]:
    """The Pareto front, and how it grew."""
    objectives = study.plan.objectives
    shown = [row for row in rows if row.state in DRAWN_STATES and row.value is not None]
    front = [row.number for row in front_of(rows, objectives)]
    points = {name: [row.point(objectives)[index] for row in shown] for index, name in enumerate(objectives)}
    numbers, states = [row.number for row in shown], [row.state for row in shown]
    history = hypervolume_history(rows, objectives)
    return {
        "pareto_front": pareto.pareto_front(numbers, points, states, objectives, front),
        "hypervolume": pareto.hypervolume(list(history), list(history.values())),
    }


def _with_files(digest: str, folder: Path) -> str:
    """A digest of the trials that were drawn, and the sizes of the pictures, one of which may have been lost since."""
    sizes = sorted(f"{name} {size}" for name, size in files_in(folder).items())
    return "\n".join([digest, *sizes])


def _champion(study: Study, best: TrialRow) -> dict[str, float]:
    """Tests the best trial's checkpoint and registers it, unless the study has done so already."""
    session = study.session
    assert best.run_id is not None
    spec = {"spec": str(session.state_folder.trial_folder(best.run_id) / "spec.json")}
    published = "studies.inference.register_worker:publish"
    result = publish(session, published, study.parent, study.name, best.value, spec, "champion")
    if result is None:
        return {}
    if result.get("note"):
        session.display.inform(result["note"])
    return dict(result["test"])
