"""State that a trial may leave in its process, and that the next trial there is not affected."""

import gc
import multiprocessing
import os
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.core import module as lightning_module
from test_executors import until_exit

import datamodules  # noqa: F401
import lightning_modules
from studies.acceleration import process_reuse as slate_module
from studies.acceleration.process_reuse import Baseline, keeps_no_state
from studies.common.search_path import use
from studies.common.sources import class_paths_in
from studies.executors.local import LocalExecutor
from studies.protocol.event_log import NAME, EventReader
from studies.protocol.events import Event, Failed, Finished, Metrics, Started, Stopped
from studies.protocol.trial_spec import TrialSpec

KNOWN: dict[str, Any] = {
    "model": {"class_path": "lightning_modules.MLP", "init_args": {"hidden_sizes": [8], "dropout": 0.2}},
    "data": {"class_path": "datamodules.Tabular", "init_args": {"dataset": "moons", "batch_size": 50}},
    "trainer": {"max_epochs": 2, "log_every_n_steps": 3},
}
FINISHED = Finished({})


HAS_CHILDREN = slate_module._has_children


@pytest.fixture(autouse=True)
def childless() -> Iterator[None]:
    """This process may have a warm server, unlike a trial's process."""
    with pytest.MonkeyPatch.context() as patch:  # a test may undo its own
        patch.setattr(slate_module, "_has_children", lambda: False)
        yield


def spec(experiment: dict[str, Any] = KNOWN, folder: Path = Path("/nowhere"), **fields: Any) -> TrialSpec:
    fields = {"seed": 1, "metric": "val/loss", "direction": "minimize"} | fields
    return TrialSpec(folder.name, experiment, folder=str(folder), **fields)


def test_a_trial_that_changes_nothing_leaves_a_clean_process() -> None:
    baseline = Baseline()
    assert baseline.is_clean(spec(), FINISHED) and baseline.is_clean(spec(), Stopped("pruned", {}))


@pytest.mark.parametrize("ending", [Failed("it broke", ""), Stopped("interrupted", {}), None])
def test_after_a_failure_the_process_is_not_clean(ending: Event | None) -> None:
    assert not Baseline().is_clean(spec(), ending)


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("model", {"class_path": "mine.Model"}),
        ("data", {"class_path": "mine.Data"}),
        ("trainer", {"callbacks": [{"class_path": "mine.Callback"}]}),
        ("model", {"class_path": "lightning_modules.MLP", "init_args": {"part": {"class_path": "mine.Part"}}}),
        ("model", {"class_path": "lightning_modules_of_mine.MLP"}),
        ("model", {"class_path": "lightning_modules.mlp.Standardize"}),
        ("model", {"class_path": "MLP"}),
    ],
)
def test_unknown_classes_are_not_trusted(section: str, value: dict[str, Any]) -> None:
    assert not Baseline().is_clean(spec({**KNOWN, section: value}), FINISHED)


def test_the_declaration_is_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(lightning_modules.MLP):
        pass

    class Promised(Mine):
        keeps_no_state = True

    for cls in (Mine, Promised):  # as if in a user's package of that name
        monkeypatch.setattr(lightning_modules, cls.__name__, cls, raising=False)
    assert keeps_no_state("lightning_modules.MLP") and keeps_no_state("lightning_modules.Promised")
    assert not keeps_no_state("lightning_modules.Mine")
    assert keeps_no_state("pytorch_lightning.callbacks.EarlyStopping") and keeps_no_state("torch.optim.Adam")


def leaves_a_process_behind() -> None:
    slate_module._has_children = HAS_CHILDREN
    baseline = Baseline()
    assert baseline.is_clean(spec(), FINISHED)
    with subprocess.Popen(["sleep", "60"]) as left:
        assert not baseline.is_clean(spec(), FINISHED)
        left.kill()
    assert baseline.is_clean(spec(), FINISHED)


def test_a_trial_that_leaves_a_child_is_its_processes_last() -> None:
    process = multiprocessing.get_context("fork").Process(target=leaves_a_process_behind)
    process.start()
    process.join()
    assert process.exitcode == 0


def test_classes_are_found_anywhere_in_the_experiment() -> None:
    callback = {"class_path": "b.B", "init_args": {"inner": [{"class_path": "c.C"}]}}
    assert set(class_paths_in({"model": {"class_path": "a.A"}, "trainer": {"callbacks": [callback]}})) == {
        *("a.A", "b.B", "c.C")
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.chdir("/"),
        lambda patch: patch.syspath_prepend("/nowhere"),
        lambda patch: patch.setattr(warnings, "filters", []),
        lambda patch: torch.use_deterministic_algorithms(True),
        lambda patch: torch.set_default_dtype(torch.float64),
        lambda patch: torch.set_grad_enabled(False),
        lambda patch: patch.setattr(torch.backends.cudnn, "benchmark", True),
    ],
)
def test_changed_global_state_ends_the_process(
    change: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = Baseline()
    try:
        change(monkeypatch)
        assert not baseline.is_clean(spec(), FINISHED)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
    monkeypatch.undo()
    assert baseline.is_clean(spec(), FINISHED)


def test_a_process_runs_a_limited_number_of_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.acceleration.process_reuse.TRIALS", 3)
    baseline = Baseline()
    assert [baseline.is_clean(spec(), FINISHED) for _ in range(3)] == [True, True, False]


@pytest.fixture
def wiped() -> Iterator[None]:
    """This is not a trial's process, and it lives on."""
    yield
    gc.unfreeze()


def test_a_trials_objects_are_freed_and_the_rest_is_frozen(wiped: None) -> None:
    baseline, kept = Baseline(), torch.nn.Linear(2, 2)
    module = torch.nn.Linear(2, 2)
    module.trainer = [module]  # a reference cycle
    gone = weakref.ref(module)
    del module
    baseline.wipe()
    assert gone() is None
    assert not any(item is kept for item in gc.get_objects())


def test_the_environment_is_restored(monkeypatch: pytest.MonkeyPatch, wiped: None) -> None:
    monkeypatch.setenv("HARNESS_KEPT", "as it was")
    monkeypatch.setenv("HARNESS_LOST", "as it was")
    baseline = Baseline()
    os.environ["HARNESS_KEPT"] = "changed"
    os.environ["HARNESS_NEW"] = "new"
    del os.environ["HARNESS_LOST"]
    baseline.wipe()
    assert os.environ["HARNESS_KEPT"] == os.environ["HARNESS_LOST"] == "as it was"
    assert "HARNESS_NEW" not in os.environ


def test_each_trial_gets_its_warnings(wiped: None) -> None:
    baseline = Baseline()
    said = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            for _ in range(3):
                warnings.warn("of Python's", stacklevel=1)
                lightning_module.warning_cache.warn("of Lightning's")
            said.append(sorted(str(warning.message) for warning in caught))
            caught.clear()
            baseline.wipe()
    assert said == [["of Lightning's", "of Python's"]] * 2


def words(folder: Path) -> dict[str, Any]:
    (folder / "words.txt").write_text("\n".join(a + b + c for a in "abcde" for b in "fghi" for c in "jklm"))
    arguments = {"batch_size": 8, "validation_size": 5, "test_size": 5, "words_file": str(folder / "words.txt")}
    model = {"hidden_size": 12, "num_layers": 2, "dropout": 0.3}
    return {
        "model": {"class_path": "lightning_modules.GRUSeq2Seq", "init_args": model},
        "data": {"class_path": "datamodules.WordReversal", "init_args": arguments},
        "trainer": {"max_epochs": 2, "log_every_n_steps": 3},
    }


def story(folder: Path) -> tuple[int, list[Any], dict[str, torch.Tensor], str]:
    """A trial's process, metrics, weights and log.txt."""
    events = EventReader(folder / NAME).read()
    assert isinstance(events[-1], Finished), (folder / "artifacts" / "log.txt").read_text()
    (started,) = [event for event in events if isinstance(event, Started)]  # on a busy machine it may not be the first
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    numbers = [(event.step, event.values) for event in events if isinstance(event, Metrics)]
    return started.pid, numbers, saved, (folder / "artifacts" / "log.txt").read_text()


@pytest.mark.parametrize("kind", ["table", "words"])
def test_a_trial_in_a_reused_process_is_bit_identical_to_one_in_a_new_process(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    use([])  # as every driver does; its trials have its sys.path
    experiment = KNOWN if kind == "table" else words(tmp_path)
    arguments = experiment["model"]["init_args"]
    other = {**experiment, "model": {**experiment["model"], "init_args": {**arguments, "dropout": 0.6}}}
    used, new = LocalExecutor(workers=1), LocalExecutor(workers=1)
    try:
        used.warm()
        for executor, trials in (
            (used, [(other, 7, "other"), (experiment, 1, "used")]),
            (new, [(experiment, 1, "new")]),
        ):
            for description, seed, name in trials:
                executor.submit(spec(description, tmp_path / name, seed=seed))
                until_exit(executor)
    finally:
        used.close()
        new.close()
    first, second, alone = story(tmp_path / "other"), story(tmp_path / "used"), story(tmp_path / "new")
    assert first[0] == second[0] != alone[0], "which processes ran them"
    assert first[1] != second[1] == alone[1], "the numbers they said"
    assert all(torch.equal(second[2][name], alone[2][name]) for name in alone[2])
    assert second[3] == alone[3], "what was warned of"
