from typing import Any

import pytest
from pytorch_lightning.callbacks import EarlyStopping

from studies.components import build_datamodule, build_module, import_class, instantiate, sizes_of

TOY: dict[str, Any] = {
    "model": {"class_path": "toy.Toy", "init_args": {"learning_rate": 0.1}},
    "data": {"class_path": "toy.ToyData", "init_args": {"batch_size": 8}},
}


def test_every_sampled_value_arrives() -> None:
    """The optimizer and the loader get what the spec says (a tuner once lost its first parameter)."""
    experiment = {
        "model": {"class_path": "lightning_modules.MLP", "init_args": {"learning_rate": 0.0123, "weight_decay": 0.045}},
        "data": {"class_path": "toy.ToyData", "init_args": {"batch_size": 16}},
    }
    datamodule = build_datamodule(experiment["data"], seed=0)
    assert datamodule.train_dataloader().batch_size == 16
    sizes = {"image_shape": (1, 4, 4), "num_classes": 3, "class_names": ["a", "b", "c"]}
    experiment["model"]["init_args"] |= {"schedule": "constant", "hidden_sizes": [7]}
    module = build_module(experiment["model"], sizes)
    optimizer = module.configure_optimizers()
    optimizer = optimizer["optimizer"] if isinstance(optimizer, dict) else optimizer
    assert {group["lr"] for group in optimizer.param_groups} == {0.0123}
    assert 0.045 in {group["weight_decay"] for group in optimizer.param_groups}
    assert 7 in {parameter.shape[0] for parameter in module.parameters()}


def test_sizes_come_from_the_data_and_cannot_disagree() -> None:
    sizes = sizes_of(build_datamodule(TOY["data"], seed=0))
    assert build_module(TOY["model"], sizes).linear.in_features == 3  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"model\.num_features comes from the data, where it is 3"):
        build_module({"class_path": "toy.Toy", "init_args": {"num_features": 4}}, sizes)


def test_the_trials_seed_orders_the_data_unless_the_experiment_says_otherwise() -> None:
    section = {"class_path": "datamodules.MNIST", "init_args": {}}
    assert build_datamodule(section, seed=5).seed == 5  # type: ignore[attr-defined]
    assert build_datamodule({**section, "init_args": {"seed": 3}}, seed=5).seed == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("MLP", "dotted path"),
        ("no_such_package.MLP", "does not import: ModuleNotFoundError"),
        ("lightning_modules.MLPP", "did you mean lightning_modules.MLP"),
    ],
)
def test_a_class_that_cannot_be_had(path: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        import_class(path)


def test_the_users_own_callbacks_are_built() -> None:
    section = {"class_path": "pytorch_lightning.callbacks.EarlyStopping", "init_args": {"monitor": "val/loss"}}
    (callback,) = instantiate([section])
    assert isinstance(callback, EarlyStopping)
    assert instantiate({"a": [1]}) == {"a": [1]}
