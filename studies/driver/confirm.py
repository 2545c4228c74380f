"""`harness confirm`: the best trials of a study and the experiment's defaults on fresh seeds, paired by seed.

The race decides who is trained on (studies/statistics/race.py). Only the confirmed winner meets the test set; it
becomes the champion.
"""

from __future__ import annotations

import json
import time
from typing import Any

from studies.common.data_changes import data_changed
from studies.common.state_folder import StateFolder
from studies.common.trust import check_own
from studies.driver.confirm_source import ConfirmSource, fresh_seeds
from studies.driver.confirmed import crown, show_race
from studies.driver.extension import described
from studies.driver.replicates import Configuration, Replicates
from studies.driver.session import Options, Result, Session, display_for, opened
from studies.driver.verdicts import luck, verdict_lines
from studies.search import Search, TrialRow, ranked
from studies.statistics.intervals import summarize
from studies.statistics.race import Race
from studies.tracking.ui_view import run_page

DEFAULTS = "defaults"  # name of the baseline
LOOKS = "harness.looks"  # tag of a confirm's run: what its values were looked at for, as JSON


def confirm(name: str, top: int, seeds: int, baseline: bool, options: Options) -> Result:
    """Confirms the best trials of a study; run again, it goes on, or with more seeds adds to those it has.

    Args:
        top: how many of the best complete trials, at least 1.
        seeds: on how many fresh seeds, at least 2.
        baseline: compare with the experiment's own values, too.

    Raises:
        ValueError: in one line: there is no such study, too few complete trials, or a state folder from elsewhere.
    """
    began = time.monotonic()
    state_folder = StateFolder.find(options.storage)
    state_folder.check()
    experiment = described(state_folder, name)
    if not options.trust:
        check_own(state_folder.folder, "to train its trials again")
    plan = experiment.search
    assert plan is not None
    search = Search.existing(state_folder.storage, name)
    rows = search.trials()
    chosen = ranked(rows, plan.objectives)[:top]
    if len(chosen) + baseline < 2:
        raise ValueError(
            f"study {name} has {len(chosen)} complete trials to confirm, which needs two configurations to compare"
            + ("" if baseline else ", or --baseline")
        )
    configurations = {f"trial {row.number}": _configuration(experiment, row) for row in chosen}
    if baseline:
        configurations[DEFAULTS] = Configuration(DEFAULTS, experiment.sections)
    fresh = fresh_seeds(experiment.seed, len(rows), seeds)
    display = display_for(options, f"confirm {name}", plan.metric, plan.direction, seeds * len(configurations), "run")
    with display, opened(experiment, options, display) as session:
        session.check(plan.metric, {})
        session.take_lease(name)
        experiment_id = session.connect()
        parent, known = _open_parent(session, experiment_id, name)
        looks = _looks(session, parent)
        look = {"seeds": seeds, "configurations": sorted(configurations)}
        count = len(looks) if look in looks else len(looks) + 1
        race = Race(
            [configuration for configuration in configurations if configuration != DEFAULTS],
            DEFAULTS if baseline else None,
            plan.direction,
            seeds,
            looks=count,
        )
        changed = data_changed(search.data, session.data.digests)
        if changed is not None:
            display.say(f"study {name}: {changed}")
        replicates = Replicates(session, experiment_id, parent, known, {"harness.study": name})
        source = ConfirmSource(replicates, race, configurations, fresh)
        loop = session.loop()
        loop.run(source)
        fields: dict[str, Any] = {"study": name, "run_id": parent, "metric": plan.metric, "direction": plan.direction}
        fields |= _described(race, {f"trial {row.number}": row for row in chosen})
        fields["page"] = run_page(experiment_id, parent)
        status = "interrupted" if loop.signal else "finished" if race.finished else "failed"
        if status != "interrupted":
            tags = {LOOKS: json.dumps(looks if look in looks else [*looks, look]), "harness.verdict": fields["verdict"]}
            session.tracking.soon.set_tags(parent, tags)
            show_race(session, parent, plan.metric, plan.direction, race)
            winner = race.winner()
            if winner is not None and options.test and experiment.model is not None:
                display.phase("testing and registering the winner")
                specs = [source.specs[winner, index] for index in range(seeds)]
                fields |= crown(session, parent, name, winner, specs, race, fields["verdict"])
        ends = {"finished": ("FINISHED", None), "failed": ("FAILED", "failed")}
        session.tracking.soon.end(parent, *ends.get(status, ("KILLED", "interrupted")))
    return Result(status, time.monotonic() - began, loop.signal, fields)


def _configuration(experiment: Any, row: TrialRow) -> Configuration:
    """A trial's configuration; of an extended one with the epochs that its value is of."""
    sections = experiment.with_params(row.params)
    if row.extension and row.extension.get("done"):
        sections["trainer"]["max_epochs"] = row.extension["epochs"]
    return Configuration(f"trial {row.number}", sections)


def _open_parent(session: Session, experiment_id: str, study: str) -> tuple[str, bool]:
    """The run of a study's confirm, and whether it was there before."""
    tags = {"harness.kind": "confirm", "harness.study": study}
    found = session.tracking.now.find_run(tags, experiment_id)
    if found is not None:
        session.tracking.soon.reopen(found)
        session.tracking.soon.delete_tag(found, "harness.outcome")
        parent = found
    else:
        experiment = session.experiment
        tags = {**tags, **session.data.tags, **session.options.tags}
        name = session.options.name or f"confirm {study}"
        hidden = ["seed", *experiment.search.space] if isinstance(experiment.search.space, dict) else ["seed"]  # type: ignore[union-attr]
        parent, _ = session.start_run(
            experiment_id, name, experiment.sections, experiment.seed, tags, {}, searched=hidden
        )
    session.write_provenance(parent, session.provenance_folder)
    return parent, found is not None


def _looks(session: Session, parent: str) -> list[dict[str, Any]]:
    """What earlier starts have looked at; the tag may have been edited by hand."""
    try:
        found = json.loads(session.tracking.now.run(parent).tags.get(LOOKS, "[]"))
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def _described(race: Race, rows: dict[str, TrialRow]) -> dict[str, Any]:
    """The race as plain values: each configuration's mean and luck, each comparison, and the verdict."""
    configurations = []
    for name in race.arms:
        values = race.values[name]
        summary = summarize(values) if values else None
        searched = rows[name].value if name in rows else None
        configurations.append(
            {
                "name": name,
                "params": rows[name].params if name in rows else {},
                "values": values,
                "summary": summary.to_json() if summary else None,
                "searched": searched,
                "luck": luck(searched, summary, race.direction),
                "stopped_after": race.stopped.get(name),
                "failed": name in race.failed,
            }
        )
    lines = verdict_lines(race)
    return {
        "verdict": lines[0],
        "verdicts": lines,
        "winner": race.winner(),
        "configurations": configurations,
        "comparisons": [{"a": a, "b": b, **comparison.to_json()} for (a, b), comparison in race.comparisons().items()],
        "test": {},
        "note": "",
    }
