"""parameters_of: every parameter of an experiment, with type, default and docstring."""

from pathlib import Path

import pytest

from studies.cli.main import main
from studies.config.experiment import load
from studies.trial.parameter_help import parameters_of

MODULE = '''
from pytorch_lightning import LightningModule


class Base(LightningModule):
    """Base.

    Args:
        depth: layers (at least 1), as a number, default: none.
    """

    def __init__(self, depth: int, loose=3):
        super().__init__()


class Net(Base):
    """Net.

    Args:
        names: a long line. """ + "x " * 300 + """
    """

    def __init__(self, names: list[str] = ["a, b", "(c)"], **kwargs):
        super().__init__(**kwargs)
'''


def test_every_parameter_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "listed_net.py").write_text(MODULE.replace('""" + "x " * 300 + """', "x " * 300))
    (tmp_path / "own.yaml").write_text("model: {class_path: listed_net.Net}\ntrainer: {max_epochs: 7}\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = {item["name"]: item for item in parameters_of(load(str(tmp_path / "own.yaml")).sections)}
    assert [name for name in found if name.startswith("model.")] == ["model.names", "model.depth", "model.loose"]
    assert found["model.depth"] == {
        "name": "model.depth",
        "type": "int",
        "default": None,
        "required": True,
        "help": "layers (at least 1), as a number, default: none.",
    }
    assert found["model.names"]["type"] == "list[str]" and found["model.names"]["default"] == "['a, b', '(c)']"
    assert found["model.names"]["help"].endswith("x x") and not found["model.names"]["required"]
    assert found["model.loose"]["default"] == "3"
    assert found["trainer.max_epochs"]["default"] == "7"


def test_parameters_of_optimizer_and_scheduler_are_listed(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "model: {class_path: lightning_modules.MLP}\n"
        "optimizer: {class_path: AdamW, init_args: {lr: 0.02}}\n"
        "lr_scheduler: {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 3}}\n"
    )
    found = {item["name"]: item for item in parameters_of(load(str(tmp_path / "own.yaml")).sections)}
    assert found["optimizer.lr"]["default"] == "0.02" and found["lr_scheduler.step_size"]["default"] == "3"
    assert "optimizer.weight_decay" in found and "optimizer.params" not in found
    assert "lr_scheduler.gamma" in found and "lr_scheduler.optimizer" not in found


def test_describe_shows_the_space_and_the_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "one_neuron"]) == 0
    out = capsys.readouterr().out
    assert "data.batch_size: [8, 32, 128]" in out and "--model.hidden_sizes" in out and "val/accuracy (maximize)" in out
