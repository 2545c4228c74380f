"""Both executors, through the same interface; real processes for the local one."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from studies.executors.base import Message
from studies.executors.inline import InlineExecutor
from studies.executors.local import LocalExecutor
from studies.protocol.event_log import NAME, EventReader
from studies.protocol.events import Event, Failed, Finished, Metrics, Report, Started, Stopped
from studies.protocol.trial_spec import TrialSpec

SLOW = {"seconds": 0.05}


def spec(folder: Path, name: str = "r", epochs: int = 3, **fields: Any) -> TrialSpec:
    experiment = {
        "model": {"class_path": "toy.Toy", "init_args": fields.pop("model", {})},
        "data": {"class_path": "toy.ToyData", "init_args": {}},
        "trainer": {"max_epochs": epochs, **fields.pop("trainer", {})},
    }
    path = [str(Path(__file__).parents[1] / "toy")]
    fields = {"metric": "val/loss", "direction": "minimize", "search_path": path} | fields
    return TrialSpec(name, experiment, 1, str(folder / name), **fields)


def events(folder: Path, name: str = "r") -> list[Event]:
    return EventReader(folder / name / NAME).read()


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalExecutor]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "toy"))
    executor = LocalExecutor(workers=2)
    executor.warm()
    yield executor
    executor.close()


def until_exit(executor: LocalExecutor, on_message: Any = None) -> list[Message]:
    messages = []
    deadline = time.monotonic() + 120
    while executor.running:
        assert time.monotonic() < deadline, messages
        for message in executor.wait(0.2):
            messages.append(message)
            if on_message is not None:
                on_message(message)
    return messages


def test_two_trials_at_once(executor: LocalExecutor, tmp_path: Path) -> None:
    executor.submit(spec(tmp_path, "a"))
    executor.submit(spec(tmp_path, "b"))
    assert executor.free == 0 and set(executor.running) == {"a", "b"}
    messages = until_exit(executor)
    assert {m.run_id: m.status for m in messages if m.kind == "exited"} == {"a": 0, "b": 0}
    for name in "ab":
        started, ending = events(tmp_path, name)[0], events(tmp_path, name)[-1]
        assert isinstance(started, Started) and started.pid != os.getpid()
        assert isinstance(ending, Finished)
        assert (tmp_path / name / "artifacts" / "log.txt").exists()
    assert executor.threads == max(1, len(os.sched_getaffinity(0)) // 2), "the cores are shared out"
    assert LocalExecutor(workers=2, threads=3).threads == 3


@pytest.mark.parametrize(("module", "is_zero"), [("Denormal", True), ("InheritsDenormal", False)])
def test_denormals_are_flushed_if_the_class_opts_in(tmp_path: Path, module: str, is_zero: bool) -> None:
    """Only in its trial, which may be this process; also on the plain path."""
    of_trial = spec(tmp_path, epochs=1, trainer={"log_every_n_steps": 1})
    of_trial.experiment["model"]["class_path"] = f"toy.{module}"
    executor = InlineExecutor(threads=1)
    executor.submit(of_trial)
    executor.wait(0)
    logged = [event.values for event in events(tmp_path) if isinstance(event, Metrics)]
    first = next(values["train/denormal"] for values in logged if "train/denormal" in values)
    assert (first == 0) == is_zero
    assert float(torch.full((1,), 1e-40) * torch.ones(1)) > 0


def test_denormals_are_flushed_in_a_trial_process_too(executor: LocalExecutor, tmp_path: Path) -> None:
    of_trial = spec(tmp_path, epochs=1, trainer={"log_every_n_steps": 1})
    of_trial.experiment["model"]["class_path"] = "toy.Denormal"
    executor.submit(of_trial)
    until_exit(executor)
    logged = [event.values for event in events(tmp_path) if isinstance(event, Metrics)]
    assert next(values["train/denormal"] for values in logged if "train/denormal" in values) == 0


def test_a_verdict_prunes(executor: LocalExecutor, tmp_path: Path) -> None:
    executor.submit(spec(tmp_path, epochs=50, pruning=True))
    asked = []

    def verdict(message: Message) -> None:
        if message.kind == "verdict?":
            asked.append(message)
            executor.answer("r", "pruned" if len(asked) == 2 else None)

    until_exit(executor, verdict)
    ending = events(tmp_path)[-1]
    assert isinstance(ending, Stopped) and ending.why == "pruned" and len(asked) == 2
    assert sum(isinstance(event, Report) for event in events(tmp_path)) == 2


def test_a_stop_takes_effect_at_the_next_step(executor: LocalExecutor, tmp_path: Path) -> None:
    executor.submit(spec(tmp_path, epochs=10_000, model=SLOW))
    stopped = False

    def stop(message: Message) -> None:
        nonlocal stopped
        if not stopped and any(isinstance(event, Report) for event in events(tmp_path)):
            executor.stop("r", "interrupted")
            stopped = True

    until_exit(executor, stop)
    ending = events(tmp_path)[-1]
    assert isinstance(ending, Stopped) and ending.why == "interrupted"
    assert (tmp_path / "r" / "checkpoints" / "last.ckpt").exists()


def test_a_killed_process_is_reported_with_its_signal(executor: LocalExecutor, tmp_path: Path) -> None:
    executor.submit(spec(tmp_path, model={"trouble": "kill"}))
    (exited,) = [message for message in until_exit(executor) if message.kind == "exited"]
    assert exited.status == -signal.SIGKILL
    executor.submit(spec(tmp_path, "next"))
    until_exit(executor)
    assert isinstance(events(tmp_path, "next")[-1], Finished), "the server serves on"


def known(folder: Path, name: str) -> TrialSpec:
    """A trial of classes known to keep no state."""
    model = {"class_path": "lightning_modules.MLP", "init_args": {"hidden_sizes": [4]}}
    data = {"class_path": "datamodules.Tabular", "init_args": {"dataset": "moons"}}
    experiment = {"model": model, "data": data, "trainer": {"max_epochs": 1}}
    return TrialSpec(name, experiment, 1, str(folder / name))


def pid_of(folder: Path, name: str) -> int:
    said = events(folder, name)
    assert isinstance(said[-1], Finished)
    (started,) = [event for event in said if isinstance(event, Started)]  # on a busy machine it may not be the first
    return started.pid


def test_a_process_is_only_reused_if_clean(executor: LocalExecutor, tmp_path: Path) -> None:
    for name, of in (("a", known), ("b", known), ("c", spec), ("d", spec)):
        executor.submit(of(tmp_path, name))
        until_exit(executor)
    a, b, c, d = (pid_of(tmp_path, name) for name in "abcd")
    assert a == b == c != d, "the classes of c are a user's own: it is the last of its process"
    assert (tmp_path / "b" / "artifacts" / "log.txt").exists()


def test_an_idle_process_may_die(executor: LocalExecutor, tmp_path: Path) -> None:
    executor.submit(known(tmp_path, "a"))
    until_exit(executor)
    pid = pid_of(tmp_path, "a")
    os.kill(pid, signal.SIGKILL)
    while psutil.pid_exists(pid):
        time.sleep(0.01)
    executor.submit(known(tmp_path, "b"))
    assert [message.status for message in until_exit(executor) if message.kind == "exited"] == [0]
    assert pid_of(tmp_path, "b") != pid


def test_close_ends_idle_processes(executor: LocalExecutor, tmp_path: Path) -> None:
    executor.submit(known(tmp_path, "a"))
    until_exit(executor)
    assert psutil.pid_exists(pid_of(tmp_path, "a"))
    executor.close()
    assert not psutil.pid_exists(pid_of(tmp_path, "a"))


def test_kill_and_close(executor: LocalExecutor, tmp_path: Path) -> None:
    executor.submit(spec(tmp_path, epochs=10_000, model=SLOW))
    while not events(tmp_path):
        executor.wait(0.2)
    started = events(tmp_path)[0]
    assert isinstance(started, Started)
    executor.close()
    assert executor.running == [] and not psutil.pid_exists(started.pid)


def test_the_users_exception_is_reported(executor: LocalExecutor, tmp_path: Path) -> None:
    executor.submit(spec(tmp_path, model={"trouble": "raise"}))
    until_exit(executor)
    ending = events(tmp_path)[-1]
    assert isinstance(ending, Failed) and "the toy broke" in ending.error
    assert "the toy broke" in (tmp_path / "r" / "artifacts" / "log.txt").read_text()


def test_call_returns_json_and_reports_a_crash(executor: LocalExecutor) -> None:
    assert executor.call("posixpath:split", "a/b") == ["a", "b"]  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match=r"os:_exit died \(exit status 5\)"):
        executor.call("os:_exit", 5)  # type: ignore[arg-type]


def test_two_processes_of_one_trial(executor: LocalExecutor, tmp_path: Path) -> None:
    """DDP on CPU: started as a script, so that Lightning's own launcher can start the second rank."""
    ddp = {"devices": 2, "strategy": "ddp", "accelerator": "cpu", "log_every_n_steps": 1}
    executor.submit(spec(tmp_path, epochs=2, trainer=ddp))
    until_exit(executor)
    said = events(tmp_path)
    log = (tmp_path / "r" / "artifacts" / "log.txt").read_text()
    assert isinstance(said[-1], Finished), log
    assert sum(isinstance(event, Started) for event in said) == 1, "only rank 0 speaks"
    reports = [event for event in said if isinstance(event, Report)]
    assert [report.step for report in reports] == [2, 4], "32 points in batches of 2 x 8"


@pytest.mark.slow
def test_two_processes_stop_together(executor: LocalExecutor, tmp_path: Path) -> None:
    """Only rank 0 receives the driver's messages; if the other did not learn of them, both would deadlock."""
    ddp = {"devices": 2, "strategy": "ddp", "accelerator": "cpu"}
    executor.submit(spec(tmp_path, epochs=10_000, model=SLOW, trainer=ddp))
    stopped = False

    def stop(message: Message) -> None:
        nonlocal stopped
        if not stopped and any(isinstance(event, Report) for event in events(tmp_path)):
            executor.stop("r", "interrupted")
            stopped = True

    until_exit(executor, stop)
    ending = events(tmp_path)[-1]
    assert isinstance(ending, Stopped) and ending.why == "interrupted"


def test_inline_runs_in_this_process_and_calls_its_handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "toy"))
    executor = InlineExecutor()
    asked = []

    def handler(message: Message) -> None:
        if message.kind == "verdict?":
            asked.append(message)
            executor.answer("r", "pruned" if len(asked) == 2 else None)

    executor.handler = handler
    executor.submit(spec(tmp_path, epochs=9, pruning=True))
    assert executor.free == 0
    assert executor.wait(0.1) == [Message("r", "exited", 0)]
    started, ending = events(tmp_path)[0], events(tmp_path)[-1]
    assert isinstance(started, Started) and started.pid == os.getpid()
    assert isinstance(ending, Stopped) and ending.why == "pruned"
    assert executor.call("posixpath:split", "a/b") == ["a", "b"]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="workers must be 1"):
        InlineExecutor(2)


def test_a_dying_server_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its socket is closed at once, but it counts as running until its memory is freed."""
    executor = LocalExecutor()
    process: Any = executor._context.Process
    start, refused = process.start, []

    def refuse(self: Any) -> None:
        if len(refused) < 5:
            refused.append(True)
            raise ConnectionRefusedError(111, "Connection refused")
        start(self)

    monkeypatch.setattr(process, "start", refuse)
    assert executor.call("posixpath:split", "a/b") == ["a", "b"]  # type: ignore[arg-type]
    assert len(refused) == 5


@pytest.mark.parametrize(
    ("gpus", "devices", "expected"), [(2, 1, [0, 1, 0, 1]), (1, 1, [0] * 4), (0, 1, [None] * 4), (2, 2, [None] * 4)]
)
def test_trials_are_distributed_over_the_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, devices: int, expected: list[int | None]
) -> None:
    executor = LocalExecutor(workers=4)
    executor.gpus = gpus
    begun: dict[int, TrialSpec] = {}

    def start(slot: int, specs: list[TrialSpec]) -> None:
        (begun[slot],) = specs
        executor._trials[specs[0].run_id] = SimpleNamespace(slot=slot)  # type: ignore[assignment]

    monkeypatch.setattr(executor, "_start_trials", start)
    for name in "abcd":
        executor.submit(spec(tmp_path, name, trainer={"devices": devices}))
    executor._trials.clear()
    assert [begun[slot].gpu for slot in range(4)] == expected
