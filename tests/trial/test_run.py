import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from studies.plots import registry as pictures
from studies.protocol.channel import Channel
from studies.protocol.event_log import NAME, EventReader, EventWriter
from studies.protocol.events import Artifact, Event, Failed, Finished, Metrics, Started, Stopped
from studies.protocol.trial_spec import TrialSpec
from studies.trial.run import run

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
    log = EventWriter(folder / NAME)
    run(spec, Channel(log))
    log.close()
    return EventReader(folder / NAME).read()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def series(events: list[Event]) -> list[tuple[int, dict[str, float]]]:
    return [(event.step, event.values) for event in events if isinstance(event, Metrics)]


def test_a_complete_trial(tmp_path: Path) -> None:
    events = events_of(tmp_path, test=True)
    assert isinstance(events[0], Started) and events[0].epochs == 3
    ending = events[-1]
    assert isinstance(ending, Finished)
    assert set(ending.summary) == {"fit_seconds", "best/val/loss", "best_step", "best_epoch", "test/loss"}
    drawn = [event.path for event in events if isinstance(event, Artifact)]
    assert drawn == ["pictures/learning_curves.png"]
    assert (tmp_path / "artifacts" / drawn[0]).read_bytes().startswith(b"\x89PNG")


def test_pictures_are_of_the_batches_that_are_validated_on(tmp_path: Path) -> None:
    for limit, samples in ((1, 50), (1.0, 104)):
        experiment = shipped("MLP", tmp_path)
        experiment["trainer"] |= {"max_epochs": 1, "limit_val_batches": limit}
        folder = tmp_path / str(limit)
        folder.mkdir()
        with patch("studies.plots.registry.draw", wraps=pictures.draw) as draw:
            events_of(folder, experiment)
        counts = next(call.kwargs["counts"] for call in draw.mock_calls if call.args == ("confusion_matrix",))
        assert counts.sum() == samples


def test_the_test_set_is_only_used_on_request(tmp_path: Path) -> None:
    assert not any("test/loss" in values for _, values in series(events_of(tmp_path)))


def test_equal_seeds_are_bit_identical_and_others_differ(tmp_path: Path) -> None:
    first, second, other = (events_of(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert series(first) == series(second) != series(other)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_resuming_from_an_epochs_end_is_bit_identical(tmp_path: Path) -> None:
    longer = {**TOY, "trainer": {**TOY["trainer"], "max_epochs": 4}}
    whole = events_of(tmp_path / "whole", longer)
    events_of(tmp_path / "parts", {**TOY, "trainer": {**TOY["trainer"], "max_epochs": 2}})
    resumed = events_of(
        tmp_path / "rest", longer, resume=str(tmp_path / "parts" / "checkpoints" / "last.ckpt"), extends=True
    )
    assert series(resumed) == series(whole)[len(series(whole)) // 2 :]
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "rest")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert isinstance(resumed[-1], Finished) and isinstance(whole[-1], Finished)
    assert resumed[-1].summary["best/val/loss"] == whole[-1].summary["best/val/loss"]


DIVERGES = {
    **TOY,
    "model": {"class_path": "toy.Toy", "init_args": {"learning_rate": 5.0}},
}  # the best epoch is the first


def best_weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]


def validated(events: list[Event]) -> list[float]:
    return [values["val/loss"] for _, values in series(events) if "val/loss" in values]


def test_the_best_weights_are_tested_and_pictured_not_the_last(tmp_path: Path) -> None:
    with patch("studies.trial.run.draw_pictures") as draw:
        events = events_of(tmp_path, DIVERGES, test=True)
    ending, values = events[-1], validated(events)
    assert isinstance(ending, Finished)
    assert values == sorted(values) and values[0] < values[-1], "it has to worsen"
    assert ending.summary["test/loss"] == pytest.approx(values[0]), "the points are the same in validation and test"
    pictured = draw.call_args.args[2].state_dict()
    assert all(torch.equal(pictured[name], weight) for name, weight in best_weights(tmp_path).items())
    assert not torch.equal(pictured["linear.weight"], weights(tmp_path)["linear.weight"])


def test_a_worse_model_does_not_become_the_best_after_a_resume(tmp_path: Path) -> None:
    spec = {**DIVERGES, "trainer": {**TOY["trainer"], "max_epochs": 1}}
    first = validated(events_of(tmp_path, spec))
    before = best_weights(tmp_path)
    last = str(tmp_path / "checkpoints" / "last.ckpt")
    events = events_of(tmp_path, DIVERGES, resume=last, extends=True)
    ending = events[-1]
    assert isinstance(ending, Finished) and len(validated(events)) == 3
    assert ending.summary["best/val/loss"] == first[0] < min(validated(events)[1:])
    assert all(torch.equal(before[name], weight) for name, weight in best_weights(tmp_path).items())


def test_the_datamodule_has_the_trials_seed(tmp_path: Path) -> None:
    experiment = shipped("MLP", tmp_path)
    experiment["trainer"] |= {"max_epochs": 1}
    with patch("studies.trial.run.draw_pictures") as draw:
        events_of(tmp_path, experiment, seed=7)
    assert draw.call_args.args[3].seed == 7


class StopAfter(Channel):
    """A driver that requests a stop once a step was logged."""

    def __init__(self, log: EventWriter, step: int) -> None:
        super().__init__(log)
        self.step = step

    def emit(self, event: Event, *, durable: bool = False) -> None:
        super().emit(event, durable=durable)
        if isinstance(event, Metrics) and event.progress >= self.step:
            self.stop_reason = "interrupted"


class Prunes(Channel):
    """A driver whose verdict on the first report is to prune."""

    def ask(self, event: Event) -> str | None:
        super().ask(event)
        self.stop_reason = "pruned"
        return self.stop_reason


def test_a_pruned_trial_has_pictures_and_no_test(tmp_path: Path) -> None:
    spec = TrialSpec("r", TOY, 1, str(tmp_path), metric="val/loss", direction="minimize", pruning=True, test=True)
    log = EventWriter(tmp_path / NAME)
    run(spec, Prunes(log))
    log.close()
    events = EventReader(tmp_path / NAME).read()
    assert isinstance(events[-1], Stopped) and events[-1].why == "pruned" and "test/loss" not in events[-1].summary
    assert [event.path for event in events if isinstance(event, Artifact)] == ["pictures/learning_curves.png"]


def shipped(name: str, folder: Path) -> dict[str, Any]:
    """Small versions of the shipped models, with dropout, on in-memory data."""
    (folder / "words.txt").write_text("\n".join(a + b + c for a in "abcde" for b in "fghi" for c in "jklm"))
    words = {"batch_size": 8, "validation_size": 5, "test_size": 5, "words_file": str(folder / "words.txt")}
    models = {
        "MLP": {"hidden_sizes": [16], "dropout": 0.3, "batch_norm": True},
        "CNN": {"width": 4, "depth": 2, "dropout": 0.3},
        "GRUSeq2Seq": {"hidden_size": 12, "num_layers": 2, "dropout": 0.3},
    }
    data = {"class_path": "toy.ToyImages", "init_args": {}}
    if name == "GRUSeq2Seq":
        data = {"class_path": "datamodules.WordReversal", "init_args": words}
    model = {"class_path": f"lightning_modules.{name}", "init_args": {**models[name], "schedule": "cosine"}}
    return {"model": model, "data": data, "trainer": {"max_epochs": 3, "log_every_n_steps": 4}}


@pytest.mark.parametrize("name", ["MLP", "CNN", "GRUSeq2Seq"])
@pytest.mark.parametrize("step", [4, 12, 20])
def test_stopped_within_an_epoch_and_resumed_equals_uninterrupted(tmp_path: Path, name: str, step: int) -> None:
    experiment = shipped(name, tmp_path)
    fields = {"metric": "val/loss", "direction": "minimize"}
    whole = events_of(tmp_path / "whole", experiment, **fields)
    assert isinstance(whole[-1], Finished), whole[-1]

    folder = tmp_path / "parts"
    spec = TrialSpec(run_id="r", experiment=experiment, seed=1, folder=str(folder), threads=1, **fields)  # type: ignore[arg-type]
    log = EventWriter(folder / NAME)
    run(spec, StopAfter(log, step))
    log.close()
    stopped = EventReader(folder / NAME).read()
    assert isinstance(stopped[-1], Stopped) and stopped[-1].why == "interrupted"
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == step + 1, "at the next step at which nothing else happens"

    resumed = events_of(tmp_path / "parts", experiment, resume=str(folder / "checkpoints" / "last.ckpt"), **fields)
    assert isinstance(resumed[-1], Finished), resumed[-1]
    assert series(resumed) == series(whole), "the same metrics at the same steps, none twice"
    a, b = weights(tmp_path / "whole"), weights(folder)
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_errors_of_user_code_are_events(tmp_path: Path) -> None:
    ending = events_of(tmp_path, toy(trouble="raise"))[-1]
    assert isinstance(ending, Failed)
    assert ending.error == "RuntimeError: the toy broke" and "_misbehave" in ending.traceback


def test_out_of_memory_names_usage_and_batch_size(tmp_path: Path) -> None:
    ending = events_of(tmp_path, toy(trouble="memory"))[-1]
    assert isinstance(ending, Failed)
    assert "out of memory: its process used" in ending.error and "data.batch_size=8" in ending.error
    assert "allocate" in ending.error and "torch.empty" in ending.traceback


def test_a_trial_run_by_hand(tmp_path: Path) -> None:
    """`python -m studies.trial spec.json`, with the module found by the spec's search path."""
    search_path = [str(Path(__file__).parents[1] / "toy")]
    spec = TrialSpec("r", TOY, 1, str(tmp_path), metric="val/loss", direction="minimize", search_path=search_path)
    subprocess.run([sys.executable, "-m", "studies.trial", str(spec.save())], check=True, capture_output=True)
    assert isinstance(EventReader(tmp_path / NAME).read()[-1], Finished)
