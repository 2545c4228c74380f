import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from studies.event_log import NAME, EventReader, EventWriter
from studies.link import Link
from studies.messages import Artifact, Event, Failed, Finished, Metrics, Started, TrialSpec
from studies.trial import run

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


def test_by_hand(tmp_path: Path) -> None:
    """`python -m studies.trial spec.json`, with the module found by the spec's search path."""
    search_path = [str(Path(__file__).parent / "toy")]
    spec = TrialSpec("r", TOY, 1, str(tmp_path), metric="val/loss", direction="minimize", search_path=search_path)
    subprocess.run([sys.executable, "-m", "studies.trial", str(spec.save())], check=True, capture_output=True)
    assert isinstance(EventReader(tmp_path / NAME).read()[-1], Finished)
