"""An interrupted and resumed trial is bit-identical to an uninterrupted one, for all kinds of modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import resume_habits  # noqa: F401  imported here once, and by the trials by its name
import torch

from studies.protocol.channel import Channel
from studies.protocol.event_log import NAME, EventReader, EventWriter
from studies.protocol.events import Event, Failed, Fingerprint, Finished, Metrics, Report, Stopped
from studies.protocol.trial_spec import TrialSpec
from studies.trial.run import run

EPOCHS, BATCHES = 5, 6


def callback(name: str, **init_args: Any) -> dict[str, Any]:
    path = name if "." in name else f"pytorch_lightning.callbacks.{name}"
    return {"class_path": path, "init_args": init_args}


def experiment(module: str = "Net", data: dict[str, Any] | None = None, **trainer: Any) -> dict[str, Any]:
    options = {"max_epochs": EPOCHS, "log_every_n_steps": 4, **trainer}
    return {
        "model": {"class_path": f"resume_habits.{module}", "init_args": {}},
        "data": {"class_path": "resume_habits.Data", "init_args": data or {}},
        "trainer": options,
    }


HABITS: dict[str, dict[str, Any]] = {
    "plain": experiment(),
    "early stopping": experiment(callbacks=[callback("EarlyStopping", monitor="val/loss", patience=1, min_delta=0.05)]),
    "plateau": experiment("Plateau"),
    "plateau, validation every second epoch": experiment("Plateau", check_val_every_n_epoch=2),
    "one-cycle by steps": experiment("OneCycle"),
    "accumulation": experiment(accumulate_grad_batches=2),
    "max_steps": experiment(max_epochs=-1, max_steps=EPOCHS * BATCHES),
    "EMA": experiment(callbacks=[callback("EMAWeightAveraging", decay=0.9)]),
    "SWA": experiment(callbacks=[callback("StochasticWeightAveraging", swa_lrs=0.05, swa_epoch_start=2)]),
    "hooks that draw": experiment("DrawsInHooks"),
    "hooks that change weights": experiment("ChangesWeights"),
    "a callback with a state": experiment(callbacks=[callback("resume_habits.Counter")]),
    "loader with two workers": experiment(data={"workers": 2}),
    "loader with a generator of its own": experiment(data={"kind": "generator"}),
    "a dataset that draws": experiment(data={"kind": "augmented"}),
    "a dataset that draws, in workers": experiment(data={"kind": "augmented", "workers": 2}),
    "weighted sampler": experiment(data={"kind": "weighted"}),
    "two loaders": experiment("TwoLoaders", data={"kind": "two"}),
    "loader that draws when it is made": experiment(data={"kind": "drawing loader"}),
    "loaders reloaded each epoch": experiment(reload_dataloaders_every_n_epochs=1),
    "validation within epochs": experiment(val_check_interval=3),
    "sanity check off": experiment(num_sanity_val_steps=0),
    "manual optimization": experiment("Manual"),
    "objects in the checkpoint": experiment("OwnObjects"),
    "torchmetrics": experiment("Torchmetrics"),
    "sums over epochs": experiment("SumsOverEpochs"),
}
# Within the first, second and third epoch, and at the end of the first, the third and the last.
LEAVES: list[Any] = [{"step": 9}, {"epoch": 2}]
LEAVES += [
    pytest.param(leave, marks=pytest.mark.slow) for leave in ({"step": 5}, {"step": 17}, {"epoch": 0}, {"epoch": 4})
]


class Leaves(Channel):
    """A driver that requests a stop once a step was logged, or at the end of an epoch."""

    def __init__(self, log: EventWriter, step: int | None = None, epoch: int | None = None) -> None:
        super().__init__(log)
        self.step, self.epoch = step, epoch

    def emit(self, event: Event, *, durable: bool = False) -> None:
        super().emit(event, durable=durable)
        if self.step is not None and isinstance(event, Metrics) and event.step >= self.step:
            self.stop_reason = "interrupted"
        if self.epoch is not None and isinstance(event, Report) and event.epoch >= self.epoch:
            self.stop_reason = "interrupted"


def train(folder: Path, sections: dict[str, Any], **leave: int) -> list[Event]:
    """Trains, or resumes from the folder."""
    last = folder / "checkpoints" / "last.ckpt"
    spec = TrialSpec(
        run_id="r",
        experiment=sections,
        seed=3,
        folder=str(folder),
        metric="val/loss",
        direction="minimize",
        threads=1,
        resume=str(last) if last.exists() else None,
    )
    spec.save()
    log = EventWriter(folder / NAME)
    run(spec, Leaves(log, **leave))
    log.close()
    events = EventReader(folder / NAME).read()
    assert not isinstance(events[-1], Failed), events[-1]
    return events


def final(folder: Path) -> dict[str, Any]:
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=False)
    return {
        key: checkpoint[key] for key in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks", "global_step")
    }


def points(events: list[Event]) -> dict[tuple[int, str], float]:
    """Each logged value by step and name; values logged again after a resume must be equal."""
    found: dict[tuple[int, str], float] = {}
    for event in events:
        if isinstance(event, Metrics):
            for name, value in event.values.items():
                assert found.setdefault((event.step, name), value) == value, f"{name} at step {event.step} twice"
    return found


def fingerprints(events: list[Event]) -> dict[int, tuple[int, str, str, str]]:
    """Of each epoch; those of an epoch that was trained again must be equal."""
    found: dict[int, tuple[int, str, str, str]] = {}
    for event in events:
        if isinstance(event, Fingerprint):
            told = (event.step, event.weights, event.parts, event.samples)
            assert found.setdefault(event.epoch, told) == told, event
    return found


def assert_same(one: Any, other: Any, where: str = "") -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            if "Verdicts" not in str(key):  # ours
                assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}[{index}]")
    else:
        assert one == other or one != one, f"{where}: {one} and {other}"


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[Event]]]:
    return {}


def alone(name: str, known: dict[str, Any], factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    if name not in known:
        folder = factory.mktemp("alone")
        known[name] = (folder, train(folder, HABITS[name]))
    return known[name]


@pytest.mark.parametrize("leave", LEAVES, ids=str)
@pytest.mark.parametrize("name", HABITS)
def test_interrupted_and_resumed_equals_uninterrupted(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    left_alone: dict[str, Any],
    name: str,
    leave: dict[str, int],
) -> None:
    folder, whole = alone(name, left_alone, tmp_path_factory)
    assert isinstance(whole[-1], Finished)
    stopped = train(tmp_path, HABITS[name], **leave)
    assert isinstance(stopped[-1], Stopped | Finished)
    resumed = train(tmp_path, HABITS[name]) if isinstance(stopped[-1], Stopped) else stopped
    assert isinstance(resumed[-1], Finished)
    assert_same(points(whole), points(resumed))
    prints = fingerprints(whole)
    assert list(prints) == list(range(len(prints))) and len({item[3] for item in prints.values()}) == len(prints)
    assert prints == fingerprints(resumed)
    ends = [final(folder), final(tmp_path)]
    if name == "SWA":  # Lightning's callback does not restore its schedule in the batch-norm epoch, which takes no step
        ends = [{**end, "optimizer_states": [], "lr_schedulers": [], "callbacks": {}} for end in ends]
    assert_same(*ends)
    best = [torch.load(path / "checkpoints" / "best.ckpt", weights_only=True) for path in (folder, tmp_path)]
    assert_same(best[0]["state_dict"], best[1]["state_dict"])
    for key in ("best/val/loss", "best_step", "best_epoch"):
        assert whole[-1].summary[key] == resumed[-1].summary[key]
