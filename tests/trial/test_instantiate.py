from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping

from studies.common.class_paths import import_class
from studies.trial.arguments import parse_section
from studies.trial.instantiate import build, with_sizes

TOY: dict[str, Any] = {
    "model": {"class_path": "toy.Toy", "init_args": {"learning_rate": 0.1}},
    "data": {"class_path": "toy.ToyData", "init_args": {"batch_size": 8}},
    "trainer": {},
}
IMAGES: dict[str, Any] = {"model": {"class_path": "lightning_modules.MLP"}, "trainer": {}}


def test_every_sampled_value_arrives() -> None:
    """Optimizer and loader get the spec's values (the first parameter was once lost)."""
    experiment = {
        "model": {"class_path": "lightning_modules.MLP", "init_args": {"learning_rate": 0.0123, "weight_decay": 0.045}},
        "data": {"class_path": "toy.ToyImages", "init_args": {"batch_size": 16}},
        "trainer": {},
    }
    experiment["model"]["init_args"] |= {"schedule": "constant", "hidden_sizes": [7]}
    parts = build(experiment, seed=0)
    assert parts.datamodule is not None and parts.datamodule.train_dataloader().batch_size == 16
    module = parts.module
    optimizer = module.configure_optimizers()
    optimizer = optimizer["optimizer"] if isinstance(optimizer, dict) else optimizer
    assert {group["lr"] for group in optimizer.param_groups} == {0.0123}
    assert 0.045 in {group["weight_decay"] for group in optimizer.param_groups}
    assert 7 in {parameter.shape[0] for parameter in module.parameters()}


def test_sizes_come_from_the_data_and_cannot_disagree() -> None:
    parts = build(TOY, seed=0)
    assert parts.module.linear.in_features == 3  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"model\.num_features comes from the data, where it is 3"):
        with_sizes({"class_path": "toy.Toy", "init_args": {"num_features": 4}}, parts.sizes)


def test_the_trials_seed_orders_the_data_unless_the_experiment_says_otherwise() -> None:
    section: dict[str, Any] = {"class_path": "toy.ToyImages", "init_args": {}}
    assert build({**IMAGES, "data": section}, seed=5).datamodule.seed == 5  # type: ignore[union-attr]
    section["init_args"]["seed"] = 3
    assert build({**IMAGES, "data": section}, seed=5).datamodule.seed == 3  # type: ignore[union-attr]


def test_a_datamodule_that_declares_nothing_gets_what_lightning_gives_it() -> None:
    data = {"class_path": "toy.OwnSeed"}
    parts = build({**TOY, "data": data}, seed=5)
    assert parts.datamodule.seed == 42 and not parts.datamodule.was_set_up  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("MLP", "dotted path"),
        ("no_such_package.MLP", "does not import: ModuleNotFoundError"),
        ("lightning_modules.MLPP", "did you mean lightning_modules.MLP"),
    ],
)
def test_a_class_that_cannot_be_imported(path: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        import_class(path)


def test_the_users_callbacks_are_built() -> None:
    section = {"class_path": "pytorch_lightning.callbacks.EarlyStopping", "init_args": {"monitor": "val/loss"}}
    (callback,) = build({**TOY, "trainer": {"callbacks": [section]}}, seed=0).trainer["callbacks"]
    assert isinstance(callback, EarlyStopping)


def test_a_class_may_have_its_short_name_where_lightningcli_knows_it() -> None:
    section = {"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss"}}
    (callback,) = parse_section("trainer", {"callbacks": [section]}).instantiated()["callbacks"]
    assert isinstance(callback, EarlyStopping)


def test_optimizer_and_schedule_sections_are_those_of_lightningcli() -> None:
    sections = {
        **TOY,
        "optimizer": {"class_path": "AdamW", "init_args": {"lr": 0.02}},
        "lr_scheduler": {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 3}},
    }
    (optimizer,), (schedule,) = build(sections, seed=0).module.configure_optimizers()  # type: ignore[misc]
    assert type(optimizer) is torch.optim.AdamW and optimizer.param_groups[0]["lr"] == 0.02
    assert schedule.step_size == 3 and schedule.optimizer is optimizer
    with pytest.raises(ValueError, match="lr_scheduler needs an optimizer"):
        build({**TOY, "lr_scheduler": sections["lr_scheduler"]}, seed=0)
