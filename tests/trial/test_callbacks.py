import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from toy import Toy, ToyData

from studies.protocol.channel import Channel
from studies.protocol.event_log import NAME, EventReader, EventWriter
from studies.protocol.events import CheckpointSaved, Event, Metrics, Report, Resources
from studies.trial.callbacks import ResourceSampler, ValidationSteps, Verdicts
from studies.trial.checkpointing import PREVIOUS, Checkpoints, Found, ResumePoint, loadable
from studies.trial.logger import EventLogger
from studies.trial.random_states import random_states, restore_random_states
from studies.trial.run import why_no_test


def fit(folder: Path, channel: Channel, metric: str | None = "val/loss", epochs: int = 3) -> Checkpoints:
    logger = EventLogger(channel, folder, "r")
    checkpoints = Checkpoints(channel, folder / "checkpoints", metric, "minimize")
    checkpoints.folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    trainer = Trainer(
        max_epochs=epochs,
        logger=logger,
        callbacks=[checkpoints.resume_point, checkpoints, Verdicts(channel, metric, True, checkpoints)],
        log_every_n_steps=2,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    logger.trainer = trainer
    trainer.fit(Toy(num_features=3), datamodule=ToyData(batch_size=8))
    return checkpoints


def events(folder: Path, kind: type[Event]) -> list[Event]:
    return [event for event in EventReader(folder / NAME).read() if isinstance(event, kind)]


def test_metrics_have_lightnings_steps(tmp_path: Path) -> None:
    fit(tmp_path, Channel(EventWriter(tmp_path / NAME)))
    train = [(e.step, e.epoch) for e in events(tmp_path, Metrics) if "train/loss" in e.values]  # type: ignore[attr-defined]
    val = [(e.step, e.epoch) for e in events(tmp_path, Metrics) if "val/loss" in e.values]  # type: ignore[attr-defined]
    assert train == [(1, 0), (3, 0), (5, 1), (7, 1), (9, 2), (11, 2)]
    assert val == [(3, 0), (7, 1), (11, 2)]
    done = [(e.done, e.epoch) for e in events(tmp_path, Metrics) if "val/loss" in e.values]  # type: ignore[attr-defined]
    assert [(e.step, e.epoch) for e in events(tmp_path, Report)] == done == [(4, 0), (8, 1), (12, 2)]  # type: ignore[attr-defined]


def test_best_and_last_checkpoint(tmp_path: Path) -> None:
    checkpoints = fit(tmp_path, Channel(EventWriter(tmp_path / NAME)))
    reports = {e.step: e.value for e in events(tmp_path, Report)}  # type: ignore[attr-defined]
    assert checkpoints.best_value == min(reports.values()) == reports[checkpoints.best_step or 0]
    assert torch.load(checkpoints.last, weights_only=True)["global_step"] == 12
    best = torch.load(checkpoints.best, weights_only=True)
    assert best["global_step"] == checkpoints.best_step and "optimizer_states" in best, "the same file as last.ckpt was"
    assert {path.name for path in checkpoints.folder.iterdir()} == {"best.ckpt", "last.ckpt", PREVIOUS}, (
        "no temporary files"
    )
    assert len(events(tmp_path, CheckpointSaved)) >= 4


def test_without_a_metric_the_best_is_the_last(tmp_path: Path) -> None:
    checkpoints = fit(tmp_path, Channel(EventWriter(tmp_path / NAME)), metric=None)
    assert checkpoints.best.read_bytes() == checkpoints.last.read_bytes()
    assert checkpoints.best_step == 12


def test_a_missing_metric_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"val/loss.*but got metric='val/los'"):
        fit(tmp_path, Channel(EventWriter(tmp_path / NAME)), metric="val/los")


def test_a_stop_ends_the_fit_at_the_next_step(tmp_path: Path) -> None:
    channel = Channel(EventWriter(tmp_path / NAME))
    channel.stop_reason = "interrupted"
    fit(tmp_path, channel)
    assert [e.step for e in events(tmp_path, CheckpointSaved)] == [], "no checkpoint after an incomplete epoch"  # type: ignore[attr-defined]
    assert events(tmp_path, Metrics) == []


class Pruning(Channel):
    """A driver that prunes at the second report."""

    def ask(self, event: Event) -> str | None:
        self.emit(event)
        if isinstance(event, Report) and event.epoch == 1:
            self.stop_reason = "pruned"
        return self.stop_reason


def test_a_verdict_ends_the_fit_at_that_report(tmp_path: Path) -> None:
    fit(tmp_path, Pruning(EventWriter(tmp_path / NAME)), epochs=9)
    assert [e.epoch for e in events(tmp_path, Report)] == [0, 1]  # type: ignore[attr-defined]
    assert max(e.done for e in events(tmp_path, Metrics)) == 8  # type: ignore[attr-defined]


def test_a_broken_checkpoint_is_skipped_for_the_previous_one(tmp_path: Path) -> None:
    checkpoints = fit(tmp_path, Channel(EventWriter(tmp_path / NAME)))
    last, previous = checkpoints.last, checkpoints.folder / PREVIOUS
    whole = last.read_bytes()
    assert loadable(str(last), extends=True) == Found(str(last))
    assert loadable(str(last)) == Found(str(previous)), "what ends with the last epoch is done again"
    assert torch.load(previous, weights_only=True)["global_step"] == 8
    middle = len(whole) // 2
    for broken in (b"", whole[:100], whole[:middle], b"\x00" * len(whole)):
        last.write_bytes(broken)
        found = loadable(str(last))
        assert found.path == str(previous) and "last.ckpt is broken" in found.notices[0]
    previous.write_bytes(b"")
    found = loadable(str(last))
    assert found.path is None and "previous.ckpt is broken" in found.notices[1]
    assert "starts over" in found.notices[2]
    assert loadable(None) == Found(None)


def test_all_random_generators_are_restored(tmp_path: Path) -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    torch.save(random_states(), tmp_path / "states")
    first = draw()
    assert draw() != first
    restore_random_states(torch.load(tmp_path / "states", weights_only=True))
    assert draw() == first


def test_resources_are_reported(tmp_path: Path) -> None:
    sampler = ResourceSampler(Channel(EventWriter(tmp_path / NAME)))
    values = sampler._sample(__import__("psutil").Process())
    assert values["system/process_memory_megabytes"] > 1
    sampler.start()
    sampler.stop()
    sampler.join(10)
    assert not sampler.is_alive()
    assert len(events(tmp_path, Resources)) <= 1


class Told(Channel):
    """A driver that answers each report, and keeps what is emitted.

    Args:
        answers: to reports that ask for a verdict; None goes on.
    """

    def __init__(self, *answers: str | None) -> None:
        super().__init__(None)
        self.answers = list(answers)
        self.emitted: list[Event] = []
        self.asked = 0

    def emit(self, event: Event, *, durable: bool = False) -> None:
        self.emitted.append(event)

    def ask(self, event: Event) -> str | None:
        self.emit(event)
        self.asked += 1
        self.stop_reason = self.answers.pop(0) if self.answers else None
        return self.stop_reason


class TrainsAlone(Toy):
    """Logs its metric in training, once per epoch; has no validation."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log("own", float(self.current_epoch), on_epoch=True, on_step=False)
        return loss


def reports(channel: Told) -> list[tuple[int, int]]:
    return [(event.step, event.epoch) for event in channel.emitted if isinstance(event, Report)]


def run_fit(folder: Path, channel: Told, module: Any = None, metric: str | None = "val/loss", **how: Any) -> Trainer:
    pruning = how.pop("pruning", True)
    checkpoints = Checkpoints(channel, folder / "checkpoints", metric, "minimize")
    checkpoints.folder.mkdir(parents=True)
    verdicts = Verdicts(channel, metric, pruning, checkpoints)
    trainer = Trainer(
        logger=False,
        callbacks=[checkpoints.resume_point, checkpoints, verdicts],
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **{"max_epochs": 3, **how},
    )
    trainer.fit(module or Toy(num_features=3), datamodule=ToyData(batch_size=8))
    return trainer


def test_a_metric_is_reported_once_per_validation(tmp_path: Path) -> None:
    channel = Told()
    run_fit(tmp_path, channel, val_check_interval=2)
    assert reports(channel) == [(2, 0), (4, 0), (6, 1), (8, 1), (10, 2), (12, 2)] and channel.asked == 6


def test_without_pruning_nobody_waits_for_a_verdict(tmp_path: Path) -> None:
    channel = Told()
    run_fit(tmp_path, channel, pruning=False)
    assert len(reports(channel)) == 3 and channel.asked == 0


def test_without_a_metric_nothing_is_reported(tmp_path: Path) -> None:
    channel = Told()
    run_fit(tmp_path, channel, metric=None)
    assert reports(channel) == []


@pytest.mark.parametrize("how", [{}, {"val_check_interval": 2}, {"limit_val_batches": 0}])
def test_a_metric_of_training_is_reported_at_the_end_of_its_epoch(tmp_path: Path, how: dict[str, Any]) -> None:
    channel = Told()
    run_fit(tmp_path, channel, TrainsAlone(num_features=3), "own", **how)
    assert reports(channel) == [(4, 0), (8, 1), (12, 2)]
    assert [event.value for event in channel.emitted if isinstance(event, Report)] == [0.0, 1.0, 2.0]


def test_which_loop_logs_the_metric_is_kept(tmp_path: Path) -> None:
    verdicts = Verdicts(Told(), "m", True, Checkpoints(Told(), tmp_path, "m", "minimize"))
    assert verdicts.state_dict() == {"logged_by": None}
    verdicts.load_state_dict({"logged_by": "training"})
    assert verdicts.state_dict() == {"logged_by": "training"}


def test_a_pruned_fit_ends_within_its_epoch_and_an_interrupted_one_where_it_can_be_taken_up(tmp_path: Path) -> None:
    pruned = Told(None, "pruned")
    assert run_fit(tmp_path / "a", pruned, val_check_interval=1).global_step == 2
    interrupted = Told(None, "interrupted")
    trainer = run_fit(tmp_path / "b", interrupted, val_check_interval=2)
    assert trainer.global_step == 4, "at the end of the epoch"


def test_steps_are_heard_of_once_there_is_something_to_stop_for(tmp_path: Path) -> None:
    channel = Told()
    verdicts = Verdicts(channel, "m", True, Checkpoints(channel, tmp_path, "m", "minimize"))
    assert not verdicts.wants_unlogged_steps()
    channel.stop_reason = "pruned"
    assert verdicts.wants_unlogged_steps()


@pytest.mark.parametrize(
    ("how", "stop", "natural"),
    [
        ({"max_epochs": 1}, "interrupted", True),
        ({"max_epochs": 3}, "interrupted", False),
        ({"max_epochs": -1, "max_steps": 4}, "interrupted", True),
        ({"max_epochs": -1, "max_steps": 5}, "interrupted", False),
        ({"max_epochs": 3}, None, True),
    ],
)
def test_a_stop_where_the_fit_would_have_ended_anyway_is_its_natural_end(
    tmp_path: Path, how: dict[str, Any], stop: str | None, natural: bool
) -> None:
    channel = Told(stop)
    trainer = run_fit(tmp_path, channel, **how)
    point = next(item for item in trainer.callbacks if isinstance(item, ResumePoint))  # type: ignore[attr-defined]
    assert point.natural == natural
    final = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["harness"]["final"]
    assert final == natural


def test_batches_of_validation_are_numbered_on_after_a_resume() -> None:
    steps, loop = ValidationSteps(), SimpleNamespace(_seen_batches_per_dataloader={0: 7})
    fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(val_loop=loop))
    trainer: Any = SimpleNamespace(fit_loop=fit_loop, state=SimpleNamespace(fn="fit"), sanity_checking=False)
    module: Any = None
    checkpoint: dict[str, Any] = {}
    steps.on_save_checkpoint(trainer, module, checkpoint)
    assert checkpoint == {"validation_steps": {0: 7}}
    loop._seen_batches_per_dataloader = {0: 0}
    resumed = ValidationSteps()
    resumed.on_validation_start(trainer, module)
    assert loop._seen_batches_per_dataloader == {0: 0}
    resumed.on_load_checkpoint(trainer, module, checkpoint)
    for state, sanity in (("validate", False), ("fit", True)):
        resumed.on_validation_start(
            SimpleNamespace(fit_loop=fit_loop, state=SimpleNamespace(fn=state), sanity_checking=sanity),  # type: ignore[arg-type]
            module,
        )
        assert loop._seen_batches_per_dataloader == {0: 0}
    resumed.on_validation_start(trainer, module)
    assert loop._seen_batches_per_dataloader == {0: 7}
    loop._seen_batches_per_dataloader = {0: 9}
    resumed.on_validation_start(trainer, module)
    assert loop._seen_batches_per_dataloader == {0: 9}, "once"


def test_samples_of_resources_are_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Told()
    sampler = ResourceSampler(channel, seconds=7.0)
    waits: list[float] = []

    class Ended:
        def wait(self, seconds: float) -> bool:
            waits.append(seconds)
            return len(waits) > 3

    sampler._ended = Ended()  # type: ignore[assignment]
    sampler.run()
    assert waits == [1.0, 7.0, 7.0, 7.0]
    samples = [event for event in channel.emitted if isinstance(event, Resources)]
    assert [event.step for event in samples] == [0, 1, 2]
    assert set(samples[0].values) == {
        "system/process_cpu_utilization_percentage",
        "system/process_memory_megabytes",
        "system/cpu_utilization_percentage",
        "system/system_memory_usage_percentage",
    }
    used = psutil.Process().memory_info().rss / 1e6
    assert 0.5 * used < samples[0].values["system/process_memory_megabytes"] < 2 * used
    assert sampler.daemon, "a trial that ends does not wait for it"


def test_what_cannot_be_tested_is_said(tmp_path: Path) -> None:
    class NoTest(LightningModule):
        """Has no test_step."""

    class OwnLoader(Toy):
        def test_dataloader(self) -> Any:
            return []

    toy, data = Toy(num_features=3), ToyData(batch_size=8)
    assert why_no_test(NoTest(), data) == "NoTest has no test_step"
    if type(toy).test_step is not LightningModule.test_step:
        assert why_no_test(toy, None) == "there is no test_dataloader"
        assert why_no_test(OwnLoader(num_features=3), None) is None


def test_further_objectives_are_those_of_the_best_weights(tmp_path: Path) -> None:
    channel = Channel(EventWriter(tmp_path / NAME))
    checkpoints = Checkpoints(channel, tmp_path / "checkpoints", "val/loss", "minimize")
    checkpoints.folder.mkdir()
    further = ["train/loss", "parameters", "nothing"]
    torch.manual_seed(0)
    trainer = Trainer(
        max_epochs=3,
        logger=False,
        callbacks=[checkpoints.resume_point, checkpoints, Verdicts(channel, "val/loss", False, checkpoints, further)],
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    module = Toy(num_features=3)
    frozen = torch.nn.Parameter(torch.zeros(5), requires_grad=False)
    module.register_parameter("frozen", frozen)
    trainer.fit(module, datamodule=ToyData(batch_size=8))
    reports: list[Any] = events(tmp_path, Report)
    best = min(reports, key=lambda report: report.value)
    assert len({report.further["train/loss"] for report in reports}) == 3
    assert all(report.further["parameters"] == 4 for report in reports), "three weights and a bias; not what is frozen"
    assert all(report.further["nothing"] != report.further["nothing"] for report in reports)
    assert checkpoints.best_further["train/loss"] == best.further["train/loss"]
    restored = Checkpoints(channel, tmp_path, "val/loss", "minimize")
    restored.load_state_dict(checkpoints.state_dict())
    assert restored.best_further["train/loss"] == best.further["train/loss"]


def test_reporting_further_objectives_changes_no_training(tmp_path: Path) -> None:
    weights = []
    for name, further in (("one", []), ("several", ["train/loss", "parameters"])):
        folder = tmp_path / name
        channel = Channel(EventWriter(folder / NAME))
        checkpoints = Checkpoints(channel, folder / "checkpoints", "val/loss", "minimize")
        checkpoints.folder.mkdir()
        torch.manual_seed(0)
        trainer = Trainer(
            max_epochs=2,
            logger=False,
            callbacks=[checkpoints, Verdicts(channel, "val/loss", False, checkpoints, further)],
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        module = Toy(num_features=3)
        trainer.fit(module, datamodule=ToyData(batch_size=8))
        weights.append([*module.parameters(), torch.rand(1)])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
