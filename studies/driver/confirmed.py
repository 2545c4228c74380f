"""What a confirm leaves in MLflow: table and picture of the race, and the winner as the champion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studies.driver.publishing import publish
from studies.driver.seeds import stored_summaries
from studies.driver.session import Session
from studies.protocol.trial_spec import TrialSpec
from studies.statistics.intervals import Summary, summarize
from studies.statistics.race import Race


def show_race(session: Session, parent: str, metric: str, direction: str, race: Race) -> None:
    """The table and the picture of the comparisons, in the confirm's run."""
    soon = session.tracking.soon
    columns: dict[str, list[Any]] = {name: [] for name in ("configuration", "seeds", "mean", "std", "low", "high")}
    for name in race.arms:
        summary = summarize(race.values[name]) if race.values[name] else Summary(0, float("nan"))
        for key, value in {"configuration": name, **summary.to_json()}.items():
            columns[key].append(value)
    soon.log_table(parent, columns, "confirm.json")
    leader = race.leader
    against = race.baseline if race.baseline is not None else leader
    if against is None:
        return
    from studies.plots.figure import save  # half a second, that the start need not wait for
    from studies.plots.replicates import differences

    rows = list(_against(race, against))
    folder = session.state_folder.trial_folder(parent) / "artifacts" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    save(
        differences(rows, metric, against, "higher" if direction == "maximize" else "lower"), folder / "differences.png"
    )
    soon.log_files(parent, folder, "pictures")


def _against(race: Race, against: str) -> Iterator[tuple[str, float, float, float, str]]:
    for (a, b), found in race.comparisons().items():
        if b == against:
            yield a, found.difference, found.low, found.high, found.verdict
        elif a == against:
            turned = {"better": "worse", "worse": "better"}.get(found.verdict, found.verdict)
            yield b, -found.difference, -found.high, -found.low, turned


def crown(
    session: Session, parent: str, study: str, winner: str, specs: list[TrialSpec], race: Race, verdict: str
) -> dict[str, Any]:
    """Tests all runs of the winner, and registers the one that is best on validation data."""
    values = race.values[winner]
    choose = max if race.direction == "maximize" else min
    best = values.index(choose(values))
    spec = {"specs": [str(Path(one.folder) / "spec.json") for one in specs], "best": best, "verdict": verdict}
    crowned = "studies.inference.confirmed_worker:crown"
    result = publish(session, crowned, parent, study, values[best], spec, "winner")
    if result is None:
        return {}
    summaries = {name: summarize(found) for name, found in result["test"].items()}
    session.tracking.soon.log_metrics(parent, stored_summaries(summaries))
    return {"test": {name: summary.to_json() for name, summary in summaries.items()}, "note": result["note"]}
