"""Trial folders as after a fit, with untrained models of each family."""

from pathlib import Path
from typing import Any

import torch

from datamodules import MNIST, Tabular, WordReversal
from lightning_modules import CNN, MLP, GRUSeq2Seq
from studies.common.trust import make_own
from studies.config.yaml_io import dump_yaml
from studies.protocol.trial_spec import TrialSpec

WORDS = "the cat sat on mat turkey yekrut bird house mouse stone water light green plant table chair"


def trained(folder: Path, run_id: str, module: Any, model: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Creates a trial folder as after a fit; returns the payload of `predict`, without items."""
    experiment = {"model": model, "data": data, "trainer": {}}
    path = folder / "trials" / run_id
    make_own(folder)
    (path / "checkpoints").mkdir(parents=True)
    torch.save({"state_dict": module.state_dict()}, path / "checkpoints" / "best.ckpt")
    TrialSpec(run_id=run_id, experiment=experiment, seed=0, folder=str(path)).save()
    return {"experiment": dump_yaml(experiment), "seed": 0, "checkpoint": str(path / "checkpoints" / "best.ckpt")}


def words(folder: Path, run_id: str = "aa01") -> dict[str, Any]:
    torch.manual_seed(0)
    file = folder / "words.txt"
    file.write_text(WORDS.replace(" ", "\n"))
    arguments = {"words_file": str(file), "batch_size": 2, "min_length": 2, "validation_size": 2, "test_size": 2}
    data = WordReversal(**arguments)
    data.setup()
    model = {"class_path": "lightning_modules.GRUSeq2Seq", "init_args": {"hidden_size": 8}}
    section = {"class_path": "datamodules.WordReversal", "init_args": arguments}
    return trained(folder, run_id, GRUSeq2Seq(hidden_size=8, **data.sizes), model, section)


def table(folder: Path, run_id: str = "bb02") -> dict[str, Any]:
    torch.manual_seed(0)
    data = Tabular(dataset="moons")
    data.setup("fit")
    model = {"class_path": "lightning_modules.MLP", "init_args": {"hidden_sizes": [4], "output": "sigmoid"}}
    section = {"class_path": "datamodules.Tabular", "init_args": {"dataset": "moons"}}
    return trained(folder, run_id, MLP(hidden_sizes=[4], output="sigmoid", **data.sizes), model, section)


def digits(folder: Path, run_id: str = "cc03") -> dict[str, Any]:
    """A CNN's folder; MNIST must be available, or tiny_mnist's."""
    torch.manual_seed(0)
    model = {"class_path": "lightning_modules.CNN", "init_args": {"width": 2}}
    arguments = {"data_dir": str(folder), "validation_size": 10, "batch_size": 1}
    section = {"class_path": "datamodules.MNIST", "init_args": arguments}
    assert set(MNIST(**arguments).sizes) >= {"image_shape", "class_names"}
    return trained(folder, run_id, CNN(width=2), model, section)
