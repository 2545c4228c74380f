"""Trials without acceleration: what HARNESS_PLAIN and --plain switch off."""

import builtins
import os
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from test_executors import spec
from toy import Toy

from lightning_modules import CNN, MLP, Detector, GRUSeq2Seq, Segmenter
from studies.acceleration.training.epoch_loop import FastEpochLoop
from studies.cli import main as cli
from studies.common.plain import is_plain
from studies.trial import run as trial
from studies.trial.instantiate import Parts
from studies.trial.logger import EventLogger


@pytest.mark.parametrize(("value", "plain"), [(None, False), ("", False), ("0", False), ("1", True), ("yes", True)])
def test_the_variable_says_so(value: str | None, plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_PLAIN", raising=False)
    if value is not None:
        monkeypatch.setenv("HARNESS_PLAIN", value)
    assert is_plain() == plain


@pytest.mark.parametrize("command", [["train", "NAME"], ["study", "NAME"], ["extend", "S", "--epochs", "1"]])
def test_the_option_sets_the_variable_before_anything_is_done(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []
    monkeypatch.setitem(cli.COMMANDS, command[0], lambda *_: heard.append(is_plain()) or 0)
    for before in (None, "", "0"):
        if before is None:
            monkeypatch.delenv("HARNESS_PLAIN", raising=False)
        else:
            monkeypatch.setenv("HARNESS_PLAIN", before)
        assert cli.main([*command, "--plain"]) == 0
        assert os.environ.get("HARNESS_PLAIN") == before  # who calls main() goes on as before
    assert heard == [True, True, True]


def test_plain_trials_are_not_packed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_PLAIN", "")
    assert cli.main(["study", "mnist_mlp", "--plain", "--pack", "4"]) == 2
    assert capsys.readouterr().err == "harness: pack must be 1 with --plain (HARNESS_PLAIN), but got pack=4\n"


def loop_of(folder: Path) -> Any:
    trainer = trial.build_trainer(spec(folder), Parts(Toy(), None), EventLogger(None, folder, "r"), [], [])
    return type(trainer.fit_loop.epoch_loop)


def test_a_plain_trainer_has_lightnings_own_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert loop_of(tmp_path / "one") is FastEpochLoop
    monkeypatch.setenv("HARNESS_PLAIN", "1")
    assert loop_of(tmp_path / "two") is _TrainingEpochLoop


@pytest.mark.parametrize("error", [ImportError("no module named _fused"), AttributeError("it has no _fused")])
def test_what_does_not_import_is_one_warning_and_lightnings_own_loop(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = builtins.__import__

    def breaks(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "studies.acceleration.training.epoch_loop":
            raise error
        return imported(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", breaks)
    with pytest.warns(UserWarning, match=f"Lightning's own loop.*{error}"):
        assert loop_of(tmp_path) is _TrainingEpochLoop


def test_shipped_classes_ask_for_what_changes_arithmetic_and_those_that_inherit_have_not() -> None:
    class Inherits(MLP):
        pass

    for cls in (CNN, Detector, GRUSeq2Seq, MLP, Segmenter):
        assert vars(cls)["flush_denormals"] is True
    assert "flush_denormals" not in vars(Inherits) and "pure_loss" not in vars(Inherits)
