import os
import threading
from multiprocessing import Pipe
from pathlib import Path

from studies.protocol.channel import ASK, EXIT, GO, NEXT, ORPHANED, POKE, STOP, Channel
from studies.protocol.event_log import NAME, EventReader, EventWriter
from studies.protocol.events import Report


def test_without_a_driver_every_verdict_is_to_continue(tmp_path: Path) -> None:
    channel = Channel(EventWriter(tmp_path / NAME))
    assert channel.ask(Report(1, 0, 0.5)) is None
    assert len(EventReader(tmp_path / NAME).read()) == 1


def test_other_ranks_are_silent() -> None:
    channel = Channel(None)
    channel.emit(Report(1, 0, 0.5))
    assert channel.ask(Report(1, 0, 0.5)) is None


def test_the_event_is_logged_before_the_driver_is_notified(tmp_path: Path) -> None:
    ours, theirs = Pipe()
    channel = Channel(EventWriter(tmp_path / NAME), theirs, orphaned=lambda: None)
    channel.emit(Report(1, 0, 0.5))
    assert ours.recv_bytes() == POKE
    assert len(EventReader(tmp_path / NAME).read()) == 1


def test_ask_waits_for_the_verdict(tmp_path: Path) -> None:
    ours, theirs = Pipe()
    channel = Channel(EventWriter(tmp_path / NAME), theirs, orphaned=lambda: None)
    verdicts: list[str | None] = []

    def trial() -> None:
        verdicts.append(channel.ask(Report(1, 0, 0.5)))
        verdicts.append(channel.ask(Report(2, 0, 0.4)))
        verdicts.append(channel.ask(Report(3, 0, 0.3)))  # after a stop, no more messages are sent

    thread = threading.Thread(target=trial)
    thread.start()
    assert ours.recv_bytes() == ASK
    ours.send_bytes(GO)
    assert ours.recv_bytes() == ASK
    ours.send_bytes(STOP + b"pruned")
    thread.join(10)
    assert verdicts == [None, "pruned", "pruned"]


def test_a_trial_does_not_outlive_its_driver(tmp_path: Path) -> None:
    ours, theirs = Pipe()
    child = os.fork()
    if child == 0:
        ours.close()
        Channel(EventWriter(tmp_path / NAME), theirs)
        threading.Event().wait(60)
        os._exit(0)
    theirs.close()
    ours.close()  # what the kernel does when the driver dies
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == ORPHANED


def test_an_idle_process_waits_for_its_next_trial(tmp_path: Path) -> None:
    ours, theirs = Pipe()
    first = Channel(EventWriter(tmp_path / "first" / NAME), theirs)
    first.leave(0)
    assert ours.recv_bytes() == EXIT + b"0"
    EventWriter(tmp_path / "first" / NAME, wait=0).close()  # which it could not be opened for, were it still open
    ours.send_bytes(STOP + b"too late")
    ours.send_bytes(NEXT + b"spec.json")
    assert first.next() == "spec.json"
    second = Channel(EventWriter(tmp_path / "second" / NAME), theirs)
    assert second.stop_reason is None, "that was for the first"
    ours.send_bytes(STOP + b"pruned")
    assert second.ask(Report(1, 0, 0.5)) == "pruned"
    second.leave(0)
    ours.close()
    assert second.next() is None, "the driver is gone, and so is the need for a process"
