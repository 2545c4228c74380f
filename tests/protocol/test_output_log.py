from __future__ import annotations

import os
from pathlib import Path

import pytest

from studies.protocol.output_log import open_output_log, output_log


def test_it_is_an_artifact_but_for_trials_of_older_versions(tmp_path: Path) -> None:
    assert output_log(tmp_path) == tmp_path / "artifacts" / "log.txt"
    (tmp_path / "log.txt").write_text("before\n")
    assert output_log(tmp_path) == tmp_path / "log.txt"
    with os.fdopen(open_output_log(tmp_path), "w") as file:
        file.write("after\n")
    assert (tmp_path / "log.txt").read_text() == "before\nafter\n" and not (tmp_path / "artifacts").exists()


def test_it_is_never_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "artifacts").symlink_to(tmp_path / "outside")
    (tmp_path / "b" / "artifacts").mkdir(parents=True)
    (tmp_path / "b" / "artifacts" / "log.txt").symlink_to(tmp_path / "outside" / "log.txt")
    for name in ("a", "b"):
        with pytest.raises(OSError, match="link"):
            open_output_log(tmp_path / name)
    assert list((tmp_path / "outside").iterdir()) == []
