"""Placing a run's artifacts in a local folder; tests/tracking/test_client.py reads them through MLflow."""

import os
import shutil
from pathlib import Path

import pytest

from studies.acceleration.mlflow import local_artifacts as artifact_files
from studies.acceleration.mlflow.local_artifacts import place
from studies.common.atomic_files import temporary_name


def test_a_folder_is_copied_with_its_contents(tmp_path: Path) -> None:
    (tmp_path / "from" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "from" / "a.txt").write_text("a")
    (tmp_path / "from" / "deep" / "er" / "b.txt").write_text("b")
    place(tmp_path / "from", tmp_path / "to")
    (tmp_path / "from" / "a.txt").write_text("changed afterwards")
    found = {str(path.relative_to(tmp_path / "to")): path.read_text() for path in (tmp_path / "to").rglob("*.*")}
    assert found == {"a.txt": "a", "deep/er/b.txt": "b"}
    place(tmp_path / "from" / "a.txt", tmp_path / "to")
    assert (tmp_path / "to" / "a.txt").read_text() == "changed afterwards", "the newest takes the place"
    (tmp_path / "from" / "a.txt").write_text("changed once again")
    place(tmp_path / "from" / "a.txt", tmp_path / "to")
    assert (tmp_path / "to" / "a.txt").read_text() == "changed once again", "though it is as long"
    place(tmp_path / "absent", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_files_being_written_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "from"
    folder.mkdir()
    half = temporary_name(folder / "picture.png")
    half.write_text("half")
    for name in ("a.txt", "b.txt", "c.txt"):
        (folder / name).write_text(name)
    copy = shutil.copyfile

    def copy_of_what_goes_away(source: Path, target: Path) -> None:
        if source.name == "b.txt":
            source.unlink()
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", copy_of_what_goes_away)
    place(folder, tmp_path / "to")
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == ["a.txt", "c.txt"]
    assert half.exists()


@pytest.mark.parametrize("links", [True, False])
def test_a_logged_checkpoint_does_not_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:
        monkeypatch.setattr(os, "link", lambda *names: exec('raise OSError(18, "another disk")'))
    checkpoint = tmp_path / "best.ckpt"
    checkpoint.write_text("first")
    place(checkpoint, tmp_path / "artifacts")
    logged = tmp_path / "artifacts" / "best.ckpt"
    assert checkpoint.samefile(logged) is links
    (tmp_path / "new").write_text("second")
    (tmp_path / "new").replace(checkpoint)  # as Checkpoints does
    assert logged.read_text() == "first"
    place(checkpoint, tmp_path / "artifacts")
    place(checkpoint, tmp_path / "artifacts")
    assert logged.read_text() == "second"
    assert [path.name for path in logged.parent.iterdir()] == ["best.ckpt"], "logged twice, it has one name there"


def test_partial_copies_are_not_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        Path(target).write_text("ha")
        raise OSError(28, "no space left on the device")

    (tmp_path / "log.txt").write_text("half of it would not do")
    monkeypatch.setattr(artifact_files.shutil, "copyfile", full)
    with pytest.raises(OSError, match="no space left"):
        place(tmp_path / "log.txt", tmp_path / "artifacts")
    assert list((tmp_path / "artifacts").iterdir()) == []
