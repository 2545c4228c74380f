"""Which trials `harness extend` trains further, for how long, and what stands of them afterwards."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import Calls, FakeSearch, Screen

from studies.config.search_plan import SearchPlan
from studies.driver.data import Data
from studies.driver.extension import ExtensionSource
from studies.protocol.trial_spec import TrialSpec
from studies.search import TrialRow
from studies.tracking.trial_log import Ending


def study(folder: Path, rows: list[TrialRow], direction: str = "maximize", epochs: Any = 3) -> Any:
    """A study whose trials have left their specs and checkpoints in the state folder."""
    for row in rows:
        if row.run_id is not None:
            its = folder / "trials" / row.run_id
            (its / "checkpoints").mkdir(parents=True)
            (its / "checkpoints" / "last.ckpt").touch()
            TrialSpec(
                row.run_id, {"trainer": {"max_epochs": epochs}}, 0, str(its), number=row.number, pruning=True
            ).save()
    session = SimpleNamespace(
        data=Data({"train": {"glance": "now"}}),
        trusts=True,
        tracking=Calls(),
        display=Screen(),
        note=lambda **fields: session.noted.update(fields),
        noted={},
        state_folder=SimpleNamespace(trial_folder=lambda run_id: folder / "trials" / run_id),
    )
    return SimpleNamespace(session=session, search=FakeSearch(rows), name="s", plan=SearchPlan("m", direction, {}))


def trial(number: int, value: float | None, state: str = "COMPLETE", extension: Any = None) -> TrialRow:
    return TrialRow(number, state, value, run_id=f"run{number}", extension=extension or {})


def specs(source: ExtensionSource) -> list[TrialSpec]:
    found = []
    while (spec := source.next()) is not None:
        found.append(spec)
    return found


@pytest.mark.parametrize(("direction", "numbers"), [("maximize", [2, 3, 1]), ("minimize", [0, 1, 3])])
def test_the_best_trials_are_extended_complete_or_pruned(tmp_path: Path, direction: str, numbers: list[int]) -> None:
    rows = [
        trial(0, 0.0),
        trial(1, 0.5),
        trial(2, 0.9, "PRUNED"),
        trial(3, 0.7),
        trial(4, None, "FAIL"),
        trial(5, None),
    ]
    of_study = study(tmp_path, rows, direction)
    chosen = specs(ExtensionSource(of_study, 3, 2))
    assert [spec.number for spec in chosen] == numbers
    assert of_study.session.display.total == 3
    assert of_study.session.noted == {"total": 3, "extends": numbers}
    assert of_study.search.made == [("extend", number, {"epochs": 5, "done": False}) for number in numbers]
    assert of_study.session.display.said == [f"trial {number}: 3 epochs so far, 5 in the end" for number in numbers]
    for spec in chosen:
        assert spec.extends and not spec.pruning and spec.experiment["trainer"]["max_epochs"] == 5
        assert spec.trusted and spec.data_sets == {"train": {"glance": "now"}}
        assert spec.folder == str(tmp_path / "trials" / spec.run_id)
        made = of_study.session.tracking.made
        assert ("reopen", spec.run_id) in made and ("delete_tag", spec.run_id, "harness.outcome") in made
        assert ("set_tags", spec.run_id, {"harness.epochs": "5"}) in made


def test_epochs_of_an_earlier_extension_count(tmp_path: Path) -> None:
    rows = [trial(0, 0.1, extension={"epochs": 8, "done": True, "state": "COMPLETE", "value": 0.1})]
    of_study = study(tmp_path, rows)
    (spec,) = specs(ExtensionSource(of_study, 5, 2))
    assert spec.experiment["trainer"]["max_epochs"] == 10
    assert of_study.search.made == [("extend", 0, {"epochs": 10, "done": False, "state": "COMPLETE", "value": 0.1})]


def test_an_interrupted_extension_is_finished_before_another_is_begun(tmp_path: Path) -> None:
    rows = [trial(0, 0.9), trial(1, 0.1, extension={"epochs": 8, "done": False})]
    rows.append(trial(2, 0.2, extension={"epochs": 8, "done": True}))
    of_study = study(tmp_path, rows)
    (spec,) = specs(ExtensionSource(of_study, 1, 2))
    assert spec.number == 1 and spec.experiment["trainer"]["max_epochs"] == 8
    assert of_study.search.made == []
    assert of_study.session.display.said == ["resuming an interrupted extension; no new one is started"]


def test_what_an_extension_ends_with_is_noted(tmp_path: Path) -> None:
    rows = [trial(0, 0.9), trial(1, 0.8, "PRUNED"), trial(2, 0.7)]
    of_study = study(tmp_path, rows)
    source = ExtensionSource(of_study, 3, 2)
    of_study.search.made.clear()
    states = ["COMPLETE", "FAIL", "INTERRUPTED"]
    for spec, state in zip(specs(source), states, strict=True):
        source.ended(spec, Ending(state, 0.95, {}, 1.0))
    assert of_study.search.made == [
        ("extend", 0, {"epochs": 5, "done": True, "state": "COMPLETE", "value": 0.95}),
        ("extend", 1, {"epochs": 5, "done": True, "state": "PRUNED", "value": 0.8}),
    ]
    assert source.failed
    of_study.session.tracking.made.clear()
    source.restore()
    assert of_study.session.tracking.made == [
        ("delete_tag", "run1", "harness.outcome"),
        ("end", "run1", "KILLED", "pruned"),
    ]


def test_an_extension_without_failures_has_not_failed(tmp_path: Path) -> None:
    source = ExtensionSource(study(tmp_path, [trial(0, 0.9)]), 3, 2)
    (spec,) = specs(source)
    source.ended(spec, Ending("COMPLETE", 1.0, {}, 1.0))
    assert not source.failed and source.report(spec, 1, 1.0, {}) is False and source.unrecorded() == []


@pytest.mark.parametrize("epochs", [-1, None, 0])
def test_training_that_is_not_counted_in_epochs_is_refused(tmp_path: Path, epochs: Any) -> None:
    of_study = study(tmp_path, [trial(0, 0.9)], epochs=epochs)
    with pytest.raises(ValueError, match=f"needs an experiment with trainer.max_epochs, but it has {epochs}"):
        ExtensionSource(of_study, 1, 2)
    assert of_study.search.made == []


def test_one_epoch_can_be_extended(tmp_path: Path) -> None:
    (spec,) = specs(ExtensionSource(study(tmp_path, [trial(0, 0.9)], epochs=1), 1, 1))
    assert spec.experiment["trainer"]["max_epochs"] == 2


def test_trials_that_cannot_be_extended_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="study s has no complete or pruned trial to extend"):
        ExtensionSource(study(tmp_path / "none", [trial(0, None, "FAIL"), trial(1, 0.5, "RUNNING")]), 1, 2)

    of_study = study(tmp_path / "spec", [trial(0, 0.5)])
    (tmp_path / "spec" / "trials" / "run0" / "spec.json").write_text("{")
    with pytest.raises(ValueError, match=r"trial 0 has no readable .*run0/spec.json"):
        ExtensionSource(of_study, 1, 2)

    of_study = study(tmp_path / "checkpoint", [trial(0, 0.5)])
    (tmp_path / "checkpoint" / "trials" / "run0" / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(ValueError, match=r"trial 0 has no checkpoint in .*run0 to resume from"):
        ExtensionSource(of_study, 1, 2)
