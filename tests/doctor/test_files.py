from pathlib import Path

import pytest
import torch

from studies.common.state_folder import StateFolder
from studies.doctor import files
from studies.protocol.checkpoint_files import is_whole


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Those of a trial, all whole."""
    folder = tmp_path / "trials" / "r" / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("best", "last", "previous"):
        torch.save({"name": name}, folder / f"{name}.ckpt")
    return folder


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def mend(folder: Path) -> None:
    home = StateFolder(folder, "", "")
    for finding in files.examine(home):
        finding.mend()
    assert files.examine(home) == []


def test_the_one_before_takes_the_place_of_a_broken_last(checkpoints: Path, tmp_path: Path) -> None:
    cut(checkpoints / "last.ckpt")
    mend(tmp_path)
    assert torch.load(checkpoints / "last.ckpt") == {"name": "previous"}
    assert {path.name for path in checkpoints.iterdir()} == {"best.ckpt", "last.ckpt", "last.ckpt.broken"}


def test_one_before_that_is_broken_too_takes_no_place(checkpoints: Path, tmp_path: Path) -> None:
    for name in ("last.ckpt", "previous.ckpt"):
        cut(checkpoints / name)
    mend(tmp_path)
    names = {path.name for path in checkpoints.iterdir()}
    assert names == {"best.ckpt", "last.ckpt.broken", "previous.ckpt.broken"}
    assert is_whole(checkpoints / "best.ckpt")
