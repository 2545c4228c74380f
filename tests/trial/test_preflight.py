"""Bad input that only the classes themselves can detect; also tests studies/trial/arguments.py."""

from pathlib import Path
from typing import Any

import pytest

from studies.config.yaml_io import dump_yaml, load_yaml
from studies.trial.arguments import parse_section
from studies.trial.parameter_help import help_of
from studies.trial.preflight import data_of, preflight


def payload(**changes: Any) -> dict[str, Any]:
    """A valid experiment with changes: model__learning_rate=0 sets model.init_args.learning_rate."""
    experiment: dict[str, Any] = {
        "model": {"class_path": "toy.Toy", "init_args": {}},
        "data": {"class_path": "toy.ToyData", "init_args": {}},
        "trainer": {"max_epochs": 2},
    }
    result: dict[str, Any] = {"experiment": experiment, "seed": 0, "threads": 1, "metric": "val/loss", "extremes": {}}
    for name, value in changes.items():
        section, _, parameter = name.partition("__")
        if not parameter:
            result[name] = value
        elif parameter == "class_path":
            experiment[section]["class_path"] = value
        elif section == "trainer":
            experiment["trainer"][parameter] = value
        else:
            experiment[section]["init_args"][parameter] = value
    return {**result, "experiment": dump_yaml(experiment)}


def test_a_sound_experiment_comes_back_complete_and_typed() -> None:
    report = preflight(payload(model__learning_rate=1, trainer__callbacks=[]))
    assert report["metrics"] == ["train/loss", "val/loss"]
    parameters = report["parameters"]
    model = {"learning_rate": 1.0, "width": 1, "trouble": "none", "once": False, "seconds": 0.0}
    assert parameters == {
        "model": "toy.Toy",
        **{f"model.{name}": value for name, value in model.items()},
        "data": "toy.ToyData",
        "data.batch_size": 8,
        "data.points": 32,
        "trainer.max_epochs": 2,
        "trainer.callbacks": [],
    }
    assert isinstance(parameters["model.learning_rate"], float), "whole numbers are converted to the signature's type"
    assert report["notes"] == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model__lerning_rate": 0.1}, "unknown parameter model.lerning_rate; did you mean model.learning_rate?"),
        ({"data__bach_size": 1}, "did you mean data.batch_size?"),
        ({"trainer__max_epoch": 1}, "did you mean trainer.max_epochs?"),
        ({"trainer__fast_dev_run": True}, "trainer.fast_dev_run cannot be set: it would leave no checkpoint"),
        ({"trainer__accelerator": "gpu"}, "No supported gpu backend found"),
        ({"model__learning_rate": "fast"}, "model.learning_rate must be a number, but got 'fast'"),
        ({"model__learning_rate": -1.0}, "learning_rate must be above 0, but got learning_rate=-1.0"),
        ({"model__trouble": "rase"}, "did you mean raise?"),
        ({"data__batch_size": 0}, "batch_size must be between 1 and the 32 points, but got batch_size=0"),
        ({"data__batch_size": 33}, "but got batch_size=33"),
        ({"data__batch_size": 1.5}, "data.batch_size must be an integer, but got 1.5"),
        ({"trainer__max_epochs": "many"}, "trainer.max_epochs must be"),
        ({"trainer__precision": "17"}, "trainer.precision must be"),
        ({"metric": "val/los"}, "unknown metric val/los; did you mean val/loss?"),
        ({"model__class_path": "toy.ToyData"}, "model: class_path='toy.ToyData' is not a LightningModule"),
        ({"data__class_path": "toy.Toy"}, "data: class_path='toy.Toy' is not a LightningDataModule"),
        ({"model__class_path": "toy.Tou"}, "did you mean toy.Toy?"),
        ({"model__class_path": "no.such.Thing"}, "does not import"),
        ({"model__num_features": 4}, "model.num_features comes from the data"),
        ({"extremes": {"model.learning_rat": [0.1]}}, "space: unknown parameter model.learning_rat; did you mean"),
        ({"extremes": {"model.learning_rate": [-1.0, 1.0]}}, "space: model.learning_rate=-1.0: learning_rate must"),
        ({"extremes": {"data.batch_size": [8, 64]}}, "space: data.batch_size=64: batch_size must be"),
        ({"extremes": {"model.width": ["wide"]}}, "space: model.width='wide': model.width must be an integer"),
        ({"extremes": {"trainer.max_epochs": ["x"]}}, "space: trainer.max_epochs='x'"),
        ({"extremes": {"model.num_features": [1]}}, "space: model.num_features=1: model.num_features comes from"),
    ],
)
def test_errors_are_one_line_with_the_parameter(changes: dict[str, Any], said: str) -> None:
    report = preflight(payload(**changes))
    assert said in report["error"]
    assert "\n" not in report["error"] and "traceback" not in report


def test_errors_of_user_code_keep_their_traceback() -> None:
    report = preflight(payload(model__class_path="toy.Broken"))
    assert "broken on purpose" in report["error"] and "training_step" in report["traceback"]


def test_shipped_optimizers_are_checked_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"model\.optimizer must be .*did you mean adamw\?"):
        parse_section("model", {"class_path": "lightning_modules.MLP", "init_args": {"optimizer": "admw"}})


def test_trainer_defaults_stay_lightnings() -> None:
    given = {"max_epochs": 3, "gradient_clip_val": 1}
    assert parse_section("trainer", given).instantiated().as_dict() == given


def test_help_shows_parameters_docstrings_and_the_files_values() -> None:
    text = help_of(load_yaml(payload(model__learning_rate=0.25)["experiment"]))
    assert "--model.learning_rate" in text and "step size of SGD, above 0" in text and "0.25" in text
    assert "--data.batch_size" in text and "--trainer.max_epochs" in text
    assert "--trainer.fast_dev_run" not in text


def test_no_files_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    preflight(payload())
    assert list(tmp_path.iterdir()) == []


HOOKS = """
import threading
from toy import Toy

class HasLambda(Toy):
    def on_save_checkpoint(self, checkpoint):
        checkpoint["of mine"] = lambda: 0

class HasLock(Toy):
    def on_save_checkpoint(self, checkpoint):
        checkpoint["of mine"] = {"lock": threading.Lock()}

class Wrong(Toy):
    def on_save_checkpoint(self, checkpoint):
        checkpoint.missing
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("HasLambda", "its checkpoints cannot be written: Can't pickle local object"),
        ("HasLock", "its checkpoints cannot be written: cannot pickle '_thread.lock' object"),
    ],
)
def test_an_unpicklable_state_gives_one_line(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "unpicklable_hooks.py").write_text(HOOKS)
    report = preflight(payload(model__class_path=f"unpicklable_hooks.{name}", search_path=[str(tmp_path)]))
    assert report["error"].startswith(said)
    assert "traceback" not in report


def test_a_failing_hook_has_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "failing_hooks.py").write_text(HOOKS)  # a name of its own: Python shows lines of the file it imported
    report = preflight(payload(model__class_path="failing_hooks.Wrong", search_path=[str(tmp_path)]))
    assert report["error"].startswith("AttributeError: 'dict' object has no attribute 'missing'")
    assert "checkpoint.missing" in report["traceback"]


def test_further_objectives_are_checked_too() -> None:
    report = preflight(payload(further={"train/loss": "minimize", "parameters": "minimize"}))
    assert report["further"] == {"train/loss": "minimize", "parameters": "minimize"}
    error = preflight(payload(further={"paramters": "minimize"}))["error"]
    assert "unknown metric paramters; did you mean parameters?" in error


def test_a_further_objective_is_known_when_the_first_is(tmp_path: Path) -> None:
    """What is logged at the end of a training epoch comes after the validation, in which values are reported."""
    (tmp_path / "late.py").write_text(
        "from toy import Toy\nclass Late(Toy):\n    def on_train_epoch_end(self):\n        self.log('late', 1.0)\n"
    )
    changes = {"model__class_path": "late.Late", "search_path": [str(tmp_path)], "further": {"late": "minimize"}}
    assert preflight(payload(**changes))["error"] == (
        "metrics: late is only logged after val/loss: log it in validation as well"
    )
    changes = {**changes, "metric": "late", "further": {"val/loss": "minimize"}}
    assert "error" not in preflight(payload(**changes))


def test_the_data_are_described_and_their_overlap_is_found() -> None:
    data = preflight(payload())["data"]
    assert {split: found["read"] for split, found in data["splits"].items()} == {"train": 32, "val": 32, "test": 32}
    assert data["overlap"][0] == "32 of 32 val samples are also in train, e.g. val[0] = train[0]"
    searched = payload(extremes={"model.width": [1, 2]}, metric=None)
    assert data_of(searched)["data"]["splits"] == data["splits"]
    assert "did you mean" in data_of(payload(data__bach_size=1))["error"]
