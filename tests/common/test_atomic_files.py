import os
import subprocess
from pathlib import Path

import pytest

from studies.common.atomic_files import left_over, lives, temporary_name, write_whole


def test_readers_see_the_old_or_the_new_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "spec.json"
    write_whole(path, "one")
    write_whole(path, "two")
    assert path.read_text() == "two"

    def fails(self: Path, content: bytes) -> None:
        with open(self, "wb") as file:
            file.write(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fails)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "three")
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path], "half of it would keep the disk full"


def test_leftovers_are_temporary_files_of_dead_processes(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert not lives(process.pid) and lives(os.getpid()) and lives(1) and not lives(2**63)
    dead = tmp_path / "deep" / f".last.ckpt.{process.pid}.tmp"
    dead.parent.mkdir()
    journal = tmp_path / f".mlflow.db.{process.pid}.tmp-journal"
    ours = temporary_name(tmp_path / "last.ckpt")
    drawn = tmp_path / f".curves.png.140245931468480.{process.pid}.tmp"  # the thread's number is no process's
    for path in (dead, journal, drawn, ours, tmp_path / ".hidden.tmp", tmp_path / "last.ckpt"):
        path.touch()
    assert left_over(tmp_path) == sorted([dead, journal, drawn])
    assert left_over(tmp_path, deep=False) == sorted([journal, drawn])
