import random
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from toy import Toy, ToyData

from studies.protocol.channel import Channel
from studies.protocol.event_log import NAME, EventReader, EventWriter
from studies.protocol.events import CheckpointSaved, Event, Metrics, Report, Resources
from studies.trial.callbacks import ResourceSampler, Verdicts
from studies.trial.checkpointing import PREVIOUS, Checkpoints, Found, loadable
from studies.trial.logger import EventLogger
from studies.trial.random_states import random_states, restore_random_states


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
