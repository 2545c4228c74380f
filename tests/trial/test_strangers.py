"""Trials of third-party modules with unusual features, and with optional parts missing."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from commands import run
from test_preflight import payload
from test_run import events_of
from torch import Tensor, nn
from toy import Toy, ToyData

from studies.config.yaml_io import dump_yaml, load_yaml
from studies.inference.example_inputs import validation_inputs
from studies.protocol.events import Finished
from studies.protocol.trial_spec import TrialSpec
from studies.trial.preflight import preflight
from studies.trial.run import prepare_trained
from studies.trial.weights import load_weights

CALLBACKS = "pytorch_lightning.callbacks"


def experiment(module: str = "Toy", data: str | None = "ToyData", **trainer: Any) -> dict[str, Any]:
    home = "toy" if module == "Toy" else "test_strangers"
    sections: dict[str, Any] = {"model": {"class_path": f"{home}.{module}"}}
    if data is not None:
        sections["data"] = {"class_path": f"{'toy' if data == 'ToyData' else 'test_strangers'}.{data}"}
    return {**sections, "trainer": {"max_epochs": 3, "log_every_n_steps": 2, **trainer}}


def preflighted(sections: dict[str, Any], **more: Any) -> dict[str, Any]:
    return preflight({**payload(), "metric": None, **more, "experiment": dump_yaml(sections)})


def finished(folder: Path, sections: dict[str, Any], **fields: Any) -> Finished:
    ending = events_of(folder, sections, test=True, **fields)[-1]
    assert isinstance(ending, Finished), ending
    return ending


# -- what is optional ----------------------------------------------------------------------------------------


class NoTest(Toy):
    test_step = pl.LightningModule.test_step


class NoValidation(Toy):
    validation_step = pl.LightningModule.validation_step


class NoOptimizer(Toy):
    def configure_optimizers(self) -> None:
        return None


class Alone(Toy):
    """Has its own loaders."""

    def __init__(self) -> None:
        super().__init__(num_features=3)

    def train_dataloader(self) -> Any:
        return ToyData().train_dataloader()

    def val_dataloader(self) -> Any:
        return ToyData().val_dataloader()

    test_dataloader = val_dataloader


class NoTestData(ToyData):
    test_dataloader = pl.LightningDataModule.test_dataloader


@pytest.mark.parametrize(
    ("module", "data", "metric", "note", "has_test"),
    [
        ("NoTest", "ToyData", "val/loss", "no test: NoTest has no test_step", False),
        ("Toy", "NoTestData", "val/loss", "no test: there is no test_dataloader", False),
        ("NoValidation", "ToyData", "train/loss", "no validation: the module or the datamodule has none", True),
        ("NoOptimizer", "ToyData", "val/loss", None, True),
        ("Alone", None, "val/loss", None, True),
    ],
)
def test_missing_parts_give_one_line_and_the_rest_works(
    tmp_path: Path, module: str, data: str | None, metric: str, note: str | None, has_test: bool
) -> None:
    report = preflighted(experiment(module, data), metric=metric)
    assert report.get("notes") == ([] if note is None else [note]), report
    ending = finished(tmp_path, experiment(module, data), metric=metric)
    assert ("test/loss" in ending.summary) == has_test and f"best/{metric}" in ending.summary


def test_a_module_with_its_own_loaders_has_an_example_for_the_registry() -> None:
    assert validation_inputs(Alone()).shape == (8, 3)


class TwoLoaders(ToyData):
    def val_dataloader(self) -> Any:
        return [super().val_dataloader(), super().train_dataloader()]

    test_dataloader = ToyData.train_dataloader


class ValidatesTwo(Toy):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        super().validation_step(batch, batch_idx)


def test_the_metric_of_a_second_loader(tmp_path: Path) -> None:
    sections, metric = experiment("ValidatesTwo", "TwoLoaders"), "val/loss/dataloader_idx_1"
    assert preflighted(sections, metric=metric)["metric"] == metric
    assert "dataloader_idx_0" in preflighted(sections, metric="val/loss")["error"]
    assert f"best/{metric}" in finished(tmp_path, sections, metric=metric).summary


# -- callbacks -----------------------------------------------------------------------------------------------


def test_a_misspelt_monitor_is_met_by_the_preflight_check() -> None:
    callback = {"class_path": f"{CALLBACKS}.EarlyStopping", "init_args": {"monitor": "val/los"}}
    error = preflighted(experiment(callbacks=[callback]))["error"]
    assert error.startswith("unknown metric val/los; did you mean val/loss?")


def test_checkpoints_of_user_callbacks_are_artifacts(tmp_path: Path) -> None:
    callback = {"class_path": f"{CALLBACKS}.ModelCheckpoint", "init_args": {"monitor": "val/loss"}}
    assert "error" not in preflighted(experiment(callbacks=[callback]))
    finished(tmp_path, experiment(callbacks=[callback]))
    assert len(list((tmp_path / "artifacts").rglob("*.ckpt"))) == 1


def final_weights(sections: dict[str, Any], folder: Path) -> dict[str, Tensor]:
    """The values from plain Lightning."""
    from studies.trial.instantiate import build

    pl.seed_everything(1, workers=True, verbose=False)
    torch.set_num_threads(1)
    parts = build(sections, 1)
    quiet = {"enable_progress_bar": False, "enable_checkpointing": False, "logger": False, "default_root_dir": folder}
    pl.Trainer(**{**parts.trainer, **quiet}).fit(parts.module, datamodule=parts.datamodule)
    return parts.module.state_dict()


@pytest.mark.parametrize("start", [1, 2])
def test_averaged_weights_are_saved_tested_and_evaluated(tmp_path: Path, start: int) -> None:
    options = {"swa_lrs": 0.05, "swa_epoch_start": start, "device": "cpu"}
    swa = {"class_path": f"{CALLBACKS}.StochasticWeightAveraging", "init_args": options}
    sections = experiment(callbacks=[swa])
    assert "error" not in preflighted(sections)
    ending = finished(tmp_path, sections)
    kept = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    averaged = final_weights(sections, tmp_path)
    assert all(torch.equal(kept[name], averaged[name]) for name in averaged)
    assert ending.value == ending.summary["best/val/loss"] == pytest.approx(ending.summary["test/loss"])


def test_continuously_averaged_weights_are_saved(tmp_path: Path) -> None:
    ema = {"class_path": f"{CALLBACKS}.EMAWeightAveraging", "init_args": {"decay": 0.9}}
    sections = experiment(callbacks=[ema])
    ending = finished(tmp_path, sections)
    kept = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    averaged = final_weights(sections, tmp_path)
    assert all(torch.equal(kept[name], averaged[name]) for name in averaged), "its last are its best"
    assert ending.summary["best/val/loss"] == pytest.approx(ending.summary["test/loss"])


def test_a_fit_that_stops_within_an_epoch_keeps_its_last_weights(tmp_path: Path) -> None:
    sections = experiment(max_epochs=-1, max_steps=6)
    finished(tmp_path, sections, metric=None)
    kept = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    last = final_weights(sections, tmp_path)
    assert all(torch.equal(kept[name], last[name]) for name in last)


# -- lazily created layers and states ---------------------------------------------------------------------


class BuiltInSetup(Toy):
    def __init__(self) -> None:
        super().__init__()
        del self.linear

    def setup(self, stage: str) -> None:
        if not hasattr(self, "linear"):
            self.linear = nn.Linear(3, 1)


class BuiltInConfigureModel(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.linear = None  # type: ignore[assignment]

    def configure_model(self) -> None:
        if self.linear is None:
            self.linear = nn.Linear(3, 1)


class Lazy(Toy):
    """Its layer infers its size from the first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.LazyLinear(1)


@pytest.mark.parametrize("module", ["BuiltInSetup", "BuiltInConfigureModel", "Lazy"])
def test_lazily_created_layers_are_restored(tmp_path: Path, module: str) -> None:
    ending = finished(tmp_path / "r", experiment(module))
    spec = TrialSpec.load(tmp_path / "r" / "spec.json")
    trained, data, trainer = prepare_trained(replace(spec, folder=str(tmp_path / "elsewhere")), tmp_path / "r")
    (tested,) = trainer.test(trained, datamodule=data, verbose=False)
    assert tested["test/loss"] == ending.summary["test/loss"]


class KeepsObjects(Toy):
    """Needs a custom object in its checkpoints."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["where"] = Path("here")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        assert checkpoint["where"] == Path("here")


def test_a_module_whose_own_objects_are_not_in_the_readable_part(tmp_path: Path) -> None:
    assert "error" not in preflighted(experiment("KeepsObjects"))
    with pytest.warns(UserWarning, match="on_load_checkpoint has no .*where"):
        finished(tmp_path, experiment("KeepsObjects"))
    best = tmp_path / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(best, weights_only=True)
    torch.save({key: value for key, value in checkpoint.items() if key != "harness_left_out"}, best)
    with pytest.raises(KeyError, match="where"):
        load_weights(KeepsObjects(num_features=3), best)


# -- any leaf ------------------------------------------------------------------------------------------------


class Nested(Toy):
    def __init__(self, body: nn.Module, learning_rate: float = 0.1) -> None:
        super().__init__(learning_rate)
        self.linear = nn.Sequential(body, nn.LazyLinear(1))  # type: ignore[assignment]


def make_toy(learning_rate: float = 0.1, num_features: int = 1) -> Toy:
    return Toy(learning_rate, num_features=num_features)


LINEAR = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 3, "out_features": 2}}
STOPPING = {"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss", "patience": 2}}
NESTED: dict[str, Any] = {
    **experiment("Nested", callbacks=[STOPPING]),
    "optimizer": {"class_path": "SGD", "init_args": {"lr": 0.1}},
    "lr_scheduler": {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1}},
}
NESTED["model"]["init_args"] = {"body": LINEAR}


@pytest.mark.parametrize(
    "extremes",
    [
        {"model.body.init_args.out_features": [1, 8]},
        {"model.init_args.body.init_args.out_features": [1, 8]},
        {"model.body.init_args.bias": [True, False]},
        {"model.body": [LINEAR, {"class_path": "torch.nn.Identity"}]},
        {"trainer.callbacks.0.init_args.patience": [1, 5]},
        {"optimizer.lr": [0.01, 1.0]},
        {"optimizer.init_args.momentum": [0.0, 0.9]},
        {"optimizer.class_path": ["torch.optim.SGD", "torch.optim.AdamW"]},
        {"lr_scheduler.gamma": [0.1, 0.9]},
        {"trainer.gradient_clip_val": [None, 1.0]},
    ],
    ids=str,
)
def test_any_leaf_may_be_searched(extremes: dict[str, list[Any]]) -> None:
    assert preflighted(copy.deepcopy(NESTED), extremes=extremes).get("error") is None


@pytest.mark.parametrize(
    ("extremes", "said"),
    [
        ({"model.body.init_args.out_feature": [1]}, "out_feature; did you mean out_features?"),
        ({"model.bodi.init_args.out_features": [1]}, "unknown parameter model.bodi; did you mean model.body?"),
        ({"trainer.callbacks.0.init_args.patienc": [1]}, "patienc; did you mean patience?"),
        ({"trainer.callbacks.1.init_args.patience": [1]}, "a list of 1 has the indices 0 to 0"),
        ({"optimizer.lrr": [0.1]}, "lrr; did you mean lr?"),
        ({"model.body.init_args.out_features": ["many"]}, "out_features='many'"),
        ({"model.body": [{"class_path": "torch.nn.Linea"}]}, "torch.nn.Linea"),
        ({"data.batch_size.x": [1]}, "batch_size"),
    ],
    ids=str,
)
def test_a_missing_leaf_gives_one_line(extremes: dict[str, list[Any]], said: str) -> None:
    error = preflighted(copy.deepcopy(NESTED), extremes=extremes)["error"]
    assert said in error and "\n" not in error


def test_a_function_may_create_the_module(tmp_path: Path) -> None:
    sections = experiment("make_toy")
    sections["model"]["init_args"] = {"learning_rate": 0.2}
    report = preflighted(sections)
    assert report.get("error") is None and report["parameters"]["model.learning_rate"] == 0.2
    finished(tmp_path, sections)


# -- where classes are found ----------------------------------------------------------------------------------

OWN = """
import torch
from pytorch_lightning import LightningModule
class MLP(LightningModule):
    def __init__(self, mine: int = 1):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
    def training_step(self, batch, batch_idx):
        return self.layer(batch).mean()
    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(8, 2))
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
"""
ASK = """
import json, sys
import datamodules, lightning_modules  # already imported, as in the warm server
from studies.trial.preflight import preflight
print(json.dumps([preflight(asked) for asked in json.loads(sys.argv[1])]))
"""


def test_a_users_packages_take_precedence(tmp_path: Path) -> None:
    packages = ["lightning_modules", "datamodules", "utils", "models"]
    asked = []
    for package in packages:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(OWN)
        sections = {"model": {"class_path": f"{package}.MLP"}, "trainer": {}}
        asked.append({**payload(), "metric": None, "experiment": dump_yaml(sections), "search_path": [str(tmp_path)]})
    command = [sys.executable, "-W", "ignore", "-c", ASK, json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for package, report in zip(packages, json.loads(done.stdout.splitlines()[-1]), strict=True):
        assert report.get("parameters", report) == {"model": f"{package}.MLP", "model.mine": 1}


def test_a_study_is_extended_from_another_folder(
    home: Path, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = toy.with_name("beside.py")  # a name that is imported nowhere else
    module.write_text("from toy import Toy, ToyData\nclass Beside(Toy):\n    pass\n")
    sections = load_yaml(toy.read_text())
    sections["model"]["class_path"] = "beside.Beside"
    toy.write_text(dump_yaml(sections))
    monkeypatch.chdir(toy.parent)
    status, _, err = run(capsys, "study", "toy.yaml", "--trials", "1", "--no-test")
    assert status == 0, err
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    status, answer, err = run(capsys, "extend", "toy", "--epochs", "2", "--no-test")
    assert status == 0 and answer["trials"][0]["state"] == "COMPLETE", err
