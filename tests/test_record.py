import os
from pathlib import Path
from typing import Any

from studies.messages import Finished, TrialSpec
from studies.record import TrialRecord


class Calls:
    """A tracking that writes down what it is asked to do."""

    def __init__(self) -> None:
        self.made: list[tuple[Any, ...]] = []

    def put(self, *call: Any) -> None:
        self.made.append(call)


def test_what_a_killed_process_left_half_written_goes_when_the_trial_ends(tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    dead, living = checkpoints / ".previous.ckpt.4194999.tmp", checkpoints / f".last.ckpt.{os.getpid()}.tmp"
    for path in (dead, living, checkpoints / "last.ckpt"):
        path.write_bytes(b"x")
    calls: Any = Calls()
    ending = TrialRecord(TrialSpec("run", {}, 0, str(tmp_path)), calls).end(Finished({}))
    assert ending.state == "COMPLETE" and calls.made[-1] == ("end", "run", "FINISHED", None)
    assert {path.name for path in checkpoints.iterdir()} == {living.name, "last.ckpt"}
