"""Trials without acceleration: what HARNESS_PLAIN and --plain switch off."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_executors import spec, until_exit

from lightning_modules import CNN, MLP, Detector, GRUSeq2Seq, Segmenter
from studies import acceleration
from studies.cli import main as cli
from studies.common.plain import is_plain
from studies.executors.local import LocalExecutor

TOY = Path(__file__).parents[1] / "toy"


@pytest.mark.parametrize(("value", "plain"), [(None, False), ("", False), ("0", False), ("1", True), ("yes", True)])
def test_the_variable_switches_acceleration_off(
    value: str | None, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        assert os.environ.get("HARNESS_PLAIN") == before  # main()'s caller is not affected
    assert heard == [True, True, True]


def test_plain_trials_are_not_packed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_PLAIN", "")
    assert cli.main(["study", "mnist_mlp", "--plain", "--pack", "4"]) == 2
    assert capsys.readouterr().err == "harness: pack must be 1 with --plain (HARNESS_PLAIN), but got pack=4\n"


def loop_of(folder: Path, plain: bool) -> str:
    """The loop that trains a LocalExecutor's trial, as printed by its module."""
    executor = LocalExecutor(plain=plain)
    of_trial = spec(folder)
    of_trial.experiment["model"]["class_path"] = "toy.Telling"
    executor.submit(of_trial)
    until_exit(executor)
    executor.close()
    return (folder / "r" / "artifacts" / "log.txt").read_text()


def test_a_plain_trial_has_lightnings_own_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOY))
    assert "trained by FastEpochLoop" in loop_of(tmp_path / "one", plain=False)
    assert "trained by _TrainingEpochLoop" in loop_of(tmp_path / "two", plain=True)


@pytest.mark.parametrize("error", [ImportError("no module named _fused"), AttributeError("it has no _fused")])
def test_a_part_that_cannot_be_imported_is_skipped_with_one_warning(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = importlib.import_module

    def breaks(name: str, *arguments: Any) -> Any:
        if name.endswith(".epoch_loop"):
            raise error
        return imported(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", breaks)
    with pytest.warns(UserWarning, match=f"Lightning's own loop.*{error}") as heard:
        parts = acceleration.for_trial.__wrapped__()
    assert len(heard) == 1
    assert parts.prepare_trainer is None and parts.new_baseline is not None


def test_unused_parts_are_not_imported() -> None:
    code = (
        "import os, sys; os.environ['HARNESS_PLAIN'] = '1'; import studies.executors.warm_server, studies.driver.study;"
        "assert not [name for name in sys.modules if name.startswith('studies.acceleration')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_shipped_classes_opt_in_to_changed_arithmetic_and_subclasses_do_not_inherit_it() -> None:
    class Inherits(MLP):
        pass

    for cls in (CNN, Detector, GRUSeq2Seq, MLP, Segmenter):
        assert vars(cls)["flush_denormals"] is True
    assert "flush_denormals" not in vars(Inherits) and "pure_loss" not in vars(Inherits)
