"""Packed trials, in real processes, compared with single ones."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_executors import events, until_exit

from studies.acceleration.packing.packed_trials import Pack
from studies.executors.base import Message
from studies.executors.local import LocalExecutor
from studies.protocol.checkpoint_files import newest_checkpoint
from studies.protocol.events import Failed, Finished, Metrics, Report, Started, Stopped
from studies.protocol.trial_spec import TrialSpec

TOY = Path(__file__).parents[2] / "toy"
MODEL = {"class_path": "toy.Fragile"}
OVER = ["dropout", "fails_at", "learning_rate"]


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalExecutor]:
    monkeypatch.syspath_prepend(str(TOY))
    executor = LocalExecutor(workers=1, threads=1)
    executor.warm()
    yield executor
    executor.close()


@pytest.fixture(params=["toy.Fragile", "toy.Polling"], ids=["gradients", "steps"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is computed together: only gradients, if hooks need each step, or whole steps."""
    monkeypatch.setitem(MODEL, "class_path", request.param)
    return str(request.param)


def spec(folder: Path, k: int, epochs: int = 17, **fields: Any) -> TrialSpec:
    """A trial with its own seed, learning rate and dropout; 13 steps an epoch, so 221 in all."""
    arguments = {"learning_rate": 1e-3 * (k + 1), "dropout": 0.1 * (k + 1)} | fields.pop("model", {})
    experiment = {
        "model": {**MODEL, "init_args": arguments},
        "data": {"class_path": "toy.ToyImages", "init_args": {}},
        "trainer": {"max_epochs": epochs, "log_every_n_steps": 10},
    }
    fields = {"metric": "val/loss", "direction": "minimize", "search_path": [str(TOY)]} | fields
    return TrialSpec(f"t{k}", experiment, 100 + k, str(folder / f"t{k}"), number=k, **fields)


def go(executor: LocalExecutor, specs: list[TrialSpec], pack: int, on_message: Any = None) -> list[Message]:
    executor.pack, executor.packable_hyperparameters = pack, OVER
    messages = []
    for part in range(0, len(specs), pack):  # one worker: sequentially, or all at once
        for trial in specs[part : part + pack]:
            executor.submit(trial)
        messages += until_exit(executor, on_message)
    return messages


def weights(folder: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]  # type: ignore[no-any-return]


def packed_and_alone(executor: LocalExecutor, folder: Path, epochs: int) -> tuple[Path, Path]:
    """Folders of two packed trials, and of two single ones."""
    packed, alone = folder / "packed", folder / "alone"
    go(executor, [spec(packed, k, epochs=epochs) for k in range(2)], 2)
    go(executor, [spec(alone, k, epochs=epochs) for k in range(2)], 1)
    return packed, alone


def assert_same(packed: Path, alone: Path, k: int) -> None:
    """The same run: the same steps logged, the same values to rounding, and weights equal to 1e-5."""
    for name, value in weights(alone / f"t{k}").items():
        torch.testing.assert_close(weights(packed / f"t{k}")[name], value, rtol=0, atol=1e-5)
    series = []
    for folder in (packed, alone):
        said = events(folder, f"t{k}")
        series.append([(event.step, event.epoch, event.values) for event in said if isinstance(event, Metrics)])
    for (step, epoch, values), (step_alone, epoch_alone, values_alone) in zip(*series, strict=True):
        assert (step, epoch) == (step_alone, epoch_alone)
        assert values == pytest.approx(values_alone, abs=1e-4)


def test_each_trial_equals_a_single_run(either: str, executor: LocalExecutor, tmp_path: Path) -> None:
    packed, alone = tmp_path / "packed", tmp_path / "alone"
    messages = go(executor, [spec(packed, k) for k in range(3)], pack=3)
    assert {message.run_id: message.status for message in messages if message.kind == "exited"} == dict.fromkeys(
        ("t0", "t1", "t2"), 0
    )
    go(executor, [spec(alone, k) for k in range(3)], pack=1)
    pids = set()
    for k in range(3):
        assert_same(packed, alone, k)
        started, ending = events(packed, f"t{k}")[0], events(packed, f"t{k}")[-1]
        assert isinstance(started, Started) and isinstance(ending, Finished)
        pids.add(started.pid)
        log = (packed / f"t{k}" / "artifacts" / "log.txt").read_text()
        assert "not packed" not in log and "\n187 steps were taken together" in "\n" + log, log
        size, size_alone = (
            (folder / f"t{k}" / "checkpoints" / "last.ckpt").stat().st_size for folder in (packed, alone)
        )
        assert size < 1.1 * size_alone, "a checkpoint holds one model, not the stack"
    assert len(pids) == 1, "one process ran them"
    logs = "".join((packed / f"t{k}" / "artifacts" / "log.txt").read_text() for k in range(3))
    assert ("as a whole" in logs) == (either == "toy.Polling")


def test_a_pruned_trial_leaves_and_a_failing_one_fails_alone(
    either: str, executor: LocalExecutor, tmp_path: Path
) -> None:
    packed, alone = tmp_path / "packed", tmp_path / "alone"

    def verdict(message: Message) -> None:
        if message.kind == "verdict?":
            reports = [event for event in events(packed, message.run_id) if isinstance(event, Report)]
            executor.answer(message.run_id, "pruned" if message.run_id == "t0" and len(reports) == 2 else None)

    specs = [spec(packed, k, epochs=6, pruning=True) for k in range(4)]
    specs[1] = spec(packed, 1, epochs=6, pruning=True, model={"fails_at": 30 if either == "toy.Polling" else 33})
    go(executor, specs, 4, verdict)
    pruned, failed = events(packed, "t0")[-1], events(packed, "t1")[-1]
    assert isinstance(pruned, Stopped) and pruned.why == "pruned"
    assert isinstance(failed, Failed) and "the fragile one broke" in failed.error
    assert "the fragile one broke" in (packed / "t1" / "artifacts" / "log.txt").read_text()
    go(executor, [spec(alone, k, epochs=6) for k in (2, 3)], pack=1)
    for k in (2, 3):
        assert isinstance(events(packed, f"t{k}")[-1], Finished)
        assert_same(packed, alone, k)
        assert "broke" not in (packed / f"t{k}" / "artifacts" / "log.txt").read_text(), "each has its own log"


def test_a_stopped_pack_resumes_from_its_checkpoints(either: str, executor: LocalExecutor, tmp_path: Path) -> None:
    packed, alone = tmp_path / "packed", tmp_path / "alone"
    stopped = False

    def stop(message: Message) -> None:
        nonlocal stopped
        if not stopped and sum(isinstance(event, Report) for event in events(packed, "t1")) == 3:
            stopped = True
            for run_id in executor.running:
                executor.stop(run_id, "interrupted")

    specs = [spec(packed, k) for k in range(2)]
    go(executor, specs, 2, stop)
    for k in range(2):
        ending = events(packed, f"t{k}")[-1]
        assert isinstance(ending, Stopped) and ending.why == "interrupted"
    resumed = [spec(packed, k, resume=newest_checkpoint(packed / f"t{k}")) for k in range(2)]
    go(executor, resumed, 2)
    go(executor, [spec(alone, k) for k in range(2)], 1)
    for k in range(2):
        for name, value in weights(alone / f"t{k}").items():
            torch.testing.assert_close(weights(packed / f"t{k}")[name], value, rtol=0, atol=1e-5)


def test_after_a_pack_dies_its_trials_run_unpacked(executor: LocalExecutor, tmp_path: Path) -> None:
    killed = False

    def kill(message: Message) -> None:
        nonlocal killed
        if not killed and any(isinstance(event, Report) for event in events(tmp_path, "t0")):
            killed = True
            started = events(tmp_path, "t0")[0]
            assert isinstance(started, Started)
            os.kill(started.pid, signal.SIGKILL)

    messages = go(executor, [spec(tmp_path, k, epochs=1000) for k in range(2)], 2, kill)
    assert [message.status for message in messages if message.kind == "exited"] == [None, None]
    for k in range(2):
        executor.submit(spec(tmp_path, k, epochs=2))
    executor.wait(0.0)
    assert executor.has_begun("t0") and not executor.has_begun("t1"), "one worker: they take turns"
    executor.stop("t1", "interrupted")
    assert Message("t1", "exited", None) in until_exit(executor)
    assert isinstance(events(tmp_path, "t0")[-1], Finished)


def test_unmappable_steps_are_taken_separately(executor: LocalExecutor, tmp_path: Path) -> None:
    """Trials of different shapes that were packed by mistake."""
    packed, alone = tmp_path / "packed", tmp_path / "alone"
    arguments = [{"dropout": 0.0}, {"dropout": 0.3}]
    executor.packable_hyperparameters = OVER
    executor._start_trials(0, [spec(packed, k, epochs=4, threads=1, model=arguments[k]) for k in range(2)])
    until_exit(executor)
    go(executor, [spec(alone, k, epochs=4, model=arguments[k]) for k in range(2)], 1)
    for k in range(2):
        assert "the models differ in more than" in (packed / f"t{k}" / "artifacts" / "log.txt").read_text()
        for name, value in weights(alone / f"t{k}").items():
            assert torch.equal(weights(packed / f"t{k}")[name], value), "alone: bit-identical"


def test_changes_between_epochs_apply_in_a_pack_too(
    monkeypatch: pytest.MonkeyPatch, executor: LocalExecutor, tmp_path: Path
) -> None:
    """Its steps are replayed, and the previous epoch's recording is no longer valid."""
    monkeypatch.setitem(MODEL, "class_path", "toy.Fading")
    packed, alone = packed_and_alone(executor, tmp_path, 4)
    for k in range(2):
        assert_same(packed, alone, k)
        assert (
            "steps were taken together with other trials as a whole"
            in (packed / f"t{k}" / "artifacts" / "log.txt").read_text()
        )


def test_optimizers_that_differ_in_more_than_rates_are_not_stacked(
    monkeypatch: pytest.MonkeyPatch, executor: LocalExecutor, tmp_path: Path
) -> None:
    monkeypatch.setitem(MODEL, "class_path", "toy.Cycling")
    packed, alone = packed_and_alone(executor, tmp_path, 4)
    for k in range(2):
        assert_same(packed, alone, k)
        log = (packed / f"t{k}" / "artifacts" / "log.txt").read_text()
        assert "steps were taken together" in log and "not packed" not in log and "as a whole" not in log, log


class Stoppable:
    """A member of a pack that is told to stop after a number of steps."""

    batch = None

    def __init__(self, hears_at: int) -> None:
        self.taken, self._hears_at = 0, hears_at

    def begin(self) -> None: ...

    def finish(self, loss: Any, outputs: Any) -> None:
        self.taken += 1

    def end_step(self) -> None: ...

    @property
    def must_stop(self) -> bool:
        return self.taken >= self._hears_at


def test_a_stop_takes_effect_within_a_block_of_steps() -> None:
    members: Any = [Stoppable(hears_at=3), Stoppable(hears_at=100)]
    stack: Any = SimpleNamespace(learn=lambda batches: ([0.0] * len(batches), [()] * len(batches)))
    Pack([], [])._take_one_by_one(stack, members, 64)
    assert [member.taken for member in members] == [3, 3]
