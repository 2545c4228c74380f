"""Fingerprints are the same with and without acceleration, and a training with them stays accelerated."""

from pathlib import Path
from typing import Any

import pytest

from studies.acceleration.training.epoch_loop import FastEpochLoop, PlainStep, speed_up
from studies.protocol.channel import Channel
from studies.protocol.event_log import NAME, EventReader, EventWriter
from studies.protocol.events import Fingerprint, Finished
from studies.protocol.trial_spec import TrialSpec
from studies.trial.run import run

TOY: dict[str, Any] = {
    "model": {"class_path": "toy.Toy", "init_args": {"learning_rate": 0.1}},
    "data": {"class_path": "toy.ToyData", "init_args": {"batch_size": 8}},
    "trainer": {"max_epochs": 3, "log_every_n_steps": 2},
}


def fingerprints(folder: Path, prepare: Any) -> list[tuple[int, int, str, str, str]]:
    spec = TrialSpec("r", TOY, 1, str(folder), metric="val/loss", direction="minimize", threads=1)
    spec.save()
    run(spec, Channel(EventWriter(folder / NAME)), prepare)
    events = EventReader(folder / NAME).read()
    assert isinstance(events[-1], Finished)
    found = [event for event in events if isinstance(event, Fingerprint)]
    assert [bool(event.names) for event in found] == [True, False, False]
    return [(event.step, event.epoch, event.weights, event.parts, event.samples) for event in found]


def test_fingerprints_with_and_without_acceleration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loops, plain_steps = [], []
    usual = PlainStep.end

    def noting(step: PlainStep) -> bool:
        plain_steps.append(step)
        return usual(step)

    monkeypatch.setattr(PlainStep, "end", noting)

    def prepare(trainer: Any) -> None:
        speed_up(trainer)
        loops.append(trainer.fit_loop.epoch_loop)

    accelerated = fingerprints(tmp_path / "accelerated", prepare)
    assert isinstance(loops[0], FastEpochLoop) and plain_steps
    plain = fingerprints(tmp_path / "plain", None)
    assert plain == accelerated
    assert len({item[2] for item in plain}) == 3 and all(item[4] for item in plain)
