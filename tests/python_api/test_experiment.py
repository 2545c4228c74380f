"""Experiments made of Python objects are the experiment files that they stand for."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_lightning.callbacks import EarlyStopping

import lightning_modules
import studies
from studies.config.experiment import load
from studies.python_api.experiment import Experiment

MLP = lightning_modules.MLP


def read(experiment: Experiment, folder: Path) -> Any:
    return load(str(experiment.write(folder)))


def test_a_class_with_arguments_is_a_section_and_a_range_is_searched(tmp_path: Path) -> None:
    experiment = studies.Experiment(
        "net",
        model=partial(MLP, hidden_sizes=[64], learning_rate=studies.Range(1e-4, 1e-2, log=True)),
        data=partial(torch.nn.Identity, batch_size=studies.Choice([32, 64])),
        trainer={"max_epochs": studies.Range(2, 7), "callbacks": [partial(EarlyStopping, monitor="val/loss")]},
        optimizer=partial(torch.optim.SGD, lr=0.1),
        metric="val/accuracy",
        space={"trainer.gradient_clip_val": [0.5, 1.0]},
        sampler="random",
        seed=7,
    )
    found = read(experiment, tmp_path)
    assert found.name == "net" and found.seed == 7
    assert found.model == {
        "class_path": "lightning_modules.mlp.MLP",
        "init_args": {"hidden_sizes": [64], "learning_rate": pytest.approx(1e-3)},
    }
    assert found.data["init_args"] == {"batch_size": 32}
    assert found.optimizer == {"class_path": "torch.optim.sgd.SGD", "init_args": {"lr": 0.1}}
    assert found.trainer["max_epochs"] == 4
    assert found.trainer["callbacks"][0]["init_args"] == {"monitor": "val/loss"}
    assert found.search.sampler == "random" and found.search.metric == "val/accuracy"
    assert found.search.space == {
        "trainer.gradient_clip_val": studies.Choice([0.5, 1.0]),
        "model.learning_rate": studies.Range(1e-4, 1e-2, log=True),
        "data.batch_size": studies.Choice([32, 64]),
        "trainer.max_epochs": studies.Range(2, 7),
    }


def test_a_metric_without_a_space_selects_the_best_checkpoint(tmp_path: Path) -> None:
    found = read(Experiment("one", model=MLP, metric="val/loss", direction="minimize"), tmp_path)
    assert found.search.metric == "val/loss" and found.search.direction == "minimize" and not found.search.space
    assert read(Experiment("none", model=MLP), tmp_path).search is None


def test_several_objectives(tmp_path: Path) -> None:
    model = partial(MLP, width=studies.Range(1, 9))
    metrics, directions = ["val/accuracy", "parameters"], ["maximize", "minimize"]
    found = read(Experiment("several", model=model, metrics=metrics, directions=directions), tmp_path)
    assert found.search.objectives == dict(zip(metrics, directions, strict=True))


def test_a_nested_partial_is_searched_by_its_dotted_name(tmp_path: Path) -> None:
    net = partial(torch.nn.Linear, in_features=3, out_features=studies.Range(1, 9, step=2))
    found = read(Experiment("nested", model=partial(MLP, net=net), metric="loss"), tmp_path)
    assert found.search.space == {"model.net.init_args.out_features": studies.Range(1, 9, step=2)}
    assert found.model["init_args"]["net"]["init_args"] == {"in_features": 3, "out_features": 5}
    assert found.with_params({"model.net.init_args.out_features": 7})["model"]["init_args"]["net"]["init_args"] == {
        "in_features": 3,
        "out_features": 7,
    }


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(value=VALUES)
def test_plain_values_are_what_they_were(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("values")
    assert read(Experiment("plain", model=partial(MLP, value=value)), folder).model["init_args"]["value"] == value


def test_numbers_of_numpy_and_paths_are_plain_values(tmp_path: Path) -> None:
    model = partial(MLP, width=numpy.int64(3), rate=numpy.float64(0.5), folder=Path("data"), sizes=(1, 2))
    found = read(Experiment("numbers", model=model), tmp_path)
    assert found.model["init_args"] == {"width": 3, "rate": 0.5, "folder": "data", "sizes": [1, 2]}


def test_the_same_experiment_has_one_file_and_another_has_its_own(tmp_path: Path) -> None:
    first = Experiment("net", model=partial(MLP, width=1)).write(tmp_path)
    assert Experiment("net", model=partial(MLP, width=1)).write(tmp_path) == first
    assert Experiment("net", model=partial(MLP, width=2)).write(tmp_path) != first


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model": partial(MLP, 3)}, "model: give the arguments of a partial by name"),
        ({"model": [MLP]}, "model must be a class or function, a functools.partial of one, or an instance"),
        ({"model": MLP, "trainer": [3]}, "trainer must map the Trainer's arguments to values"),
        ({"model": partial(MLP, rate=studies.Range(0.1, 1.0))}, "experiment net searches model.rate, so it needs a m"),
        ({"model": MLP, "space": {"model.rate": 3}}, "space: model.rate must be a studies.Range or studies.Choice"),
        ({"model": partial(MLP, rows=(row for row in []))}, "model.rows: <generator object"),
        ({"model": MLP, "metric": "a", "metrics": ["b", "c"]}, "metric and metrics cannot be combined"),
        ({"model": MLP, "name": "a/b"}, "name must be letters, digits"),
    ],
)
def test_bad_input_is_one_line(fields: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^{said}") as caught:
        Experiment(**{"name": "net", **fields}).write(tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [], "nothing is created"
