import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping

from studies.event_log import NAME, EventReader, EventWriter
from studies.link import Link
from studies.messages import Artifact, Event, Failed, Finished, Metrics, Started, TrialSpec
from studies.trial import build_datamodule, build_module, import_class, instantiate, run, sizes_of

TOY: dict[str, Any] = {
    "model": {"class_path": "toy.Toy", "init_args": {"learning_rate": 0.1}},
    "data": {"class_path": "toy.ToyData", "init_args": {"batch_size": 8}},
    "trainer": {"max_epochs": 3, "log_every_n_steps": 2},
}


def toy(**init_args: Any) -> dict[str, Any]:
    return {**TOY, "model": {"class_path": "toy.Toy", "init_args": init_args}}


def events_of(folder: Path, experiment: dict[str, Any] = TOY, **fields: Any) -> list[Event]:
    fields = {"seed": 1, "metric": "val/loss", "direction": "minimize", "threads": 1} | fields
    spec = TrialSpec(run_id="r", experiment=experiment, folder=str(folder), **fields)
    spec.save()
    run(spec, Link(EventWriter(folder / NAME)))
    return EventReader(folder / NAME).read()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def series(events: list[Event]) -> list[tuple[int, dict[str, float]]]:
    return [(event.step, event.values) for event in events if isinstance(event, Metrics)]


def test_a_whole_life(tmp_path: Path) -> None:
    events = events_of(tmp_path, test=True)
    assert isinstance(events[0], Started) and events[0].epochs == 3
    ending = events[-1]
    assert isinstance(ending, Finished)
    assert set(ending.summary) == {"fit_seconds", "best/val/loss", "best/step", "best/epoch", "test/loss"}
    drawn = [event.path for event in events if isinstance(event, Artifact)]
    assert drawn == ["pictures/learning_curves.png"]
    assert (tmp_path / "artifacts" / drawn[0]).read_bytes().startswith(b"\x89PNG")


def test_the_test_set_is_met_only_when_asked(tmp_path: Path) -> None:
    assert not any("test/loss" in values for _, values in series(events_of(tmp_path)))


def test_one_seed_gives_the_same_bits_and_another_others(tmp_path: Path) -> None:
    first, second, other = (events_of(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert series(first) == series(second) != series(other)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_going_on_from_an_epochs_end_gives_the_same_bits(tmp_path: Path) -> None:
    longer = {**TOY, "trainer": {**TOY["trainer"], "max_epochs": 4}}
    whole = events_of(tmp_path / "whole", longer)
    events_of(tmp_path / "parts", {**TOY, "trainer": {**TOY["trainer"], "max_epochs": 2}})
    resumed = events_of(tmp_path / "rest", longer, resume=str(tmp_path / "parts" / "checkpoints" / "last.ckpt"))
    assert series(resumed) == series(whole)[len(series(whole)) // 2 :]
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "rest")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert isinstance(resumed[-1], Finished) and isinstance(whole[-1], Finished)
    assert resumed[-1].summary["best/val/loss"] == whole[-1].summary["best/val/loss"]


def test_what_the_users_code_raises_is_an_event(tmp_path: Path) -> None:
    ending = events_of(tmp_path, toy(trouble="raise"))[-1]
    assert isinstance(ending, Failed)
    assert ending.error == "RuntimeError: the toy broke" and "_misbehave" in ending.traceback


def test_every_sampled_value_arrives(tmp_path: Path) -> None:
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


def test_by_hand(tmp_path: Path) -> None:
    """`python -m studies.trial spec.json`, with the module found by the spec's search path."""
    search_path = [str(Path(__file__).parent / "toy")]
    spec = TrialSpec("r", TOY, 1, str(tmp_path), metric="val/loss", direction="minimize", search_path=search_path)
    subprocess.run([sys.executable, "-m", "studies.trial", str(spec.save())], check=True, capture_output=True)
    assert isinstance(EventReader(tmp_path / NAME).read()[-1], Finished)
