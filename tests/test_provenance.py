import subprocess
from pathlib import Path

import pytest

from studies.provenance import Provenance


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_commit_diff_and_untracked_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("x = 1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "a.py").write_text("x = 2\n")
    (tmp_path / "new.py").write_text("")
    monkeypatch.chdir(tmp_path)
    provenance = Provenance.collect(["train", "my exp.yaml"], tmp_path / "x.yaml")
    assert provenance.command == "harness train 'my exp.yaml'"
    assert provenance.commit == git(tmp_path, "rev-parse", "HEAD").strip()
    assert "+x = 2" in provenance.diff and "# untracked: new.py" in provenance.diff
    assert "torch==" in provenance.packages
    assert provenance.tags["mlflow.source.git.commit"] == provenance.commit
    provenance.write(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"command.txt", "packages.txt", "diff.patch"}


def test_outside_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    provenance = Provenance.collect(["list"], tmp_path / "x.yaml")
    assert provenance.commit is None and provenance.diff == ""
    assert "mlflow.source.git.commit" not in provenance.tags
