"""In what two runs differ, and that code is compared as it was when they started."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from studies.driver.provenance import Provenance
from studies.driver.run_differences import (
    LINES,
    code_differences,
    data_differences,
    package_differences,
    parameter_differences,
)
from studies.tracking.data_sets import DataSetInfo
from studies.tracking.run_info import RunInfo


def run(commit: str | None = None, **fields: Any) -> RunInfo:
    tags = {"mlflow.source.git.commit": commit} if commit else {}
    return RunInfo("a" * 32, "toy", None, "toy", "run", "FINISHED", 0.0, tags=tags, **fields)


def test_parameters_packages_and_data() -> None:
    found = parameter_differences(run(params={"a": "1", "b": "2"}), run(params={"a": "1", "b": "3", "c": "4"}))
    assert found == [{"name": "b", "a": "2", "b": "3"}, {"name": "c", "a": None, "b": "4"}]
    one = "# Python 3.11.2, Linux-6\ntorch==2.15.0\nnumpy==2.4\n"
    other = "# Python 3.12.1, Linux-6\ntorch==2.15.0\nnumpy==2.5\n"
    assert [item["name"] for item in package_differences(one, other)] == ["Python", "numpy"]
    assert package_differences("", "") == []

    def data(digest: str, count: int) -> dict[str, list[DataSetInfo]]:
        return {"train": [DataSetInfo("Toy train", digest, 9, 9, {"0": count, "1": 5})]}

    assert data_differences(run(data=data("aa", 4)), run(data=data("aa", 4))) == []
    (changed,) = data_differences(run(data=data("aa", 4)), run(data=data("bb", 3)))
    assert (changed["split"], changed["a"], changed["b"]) == ("train", "Toy aa", "Toy bb")
    assert changed["classes"] == [{"name": "0", "a": 4, "b": 3}]
    (only,) = data_differences(run(data=data("aa", 4)), run())
    assert only["b"] is None


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("width = 1\ndepth = 2\n")
    (tmp_path / "other.py").write_text("x = 1\n")
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")


def state(folder: Path) -> tuple[RunInfo, str]:
    """A run that starts now, and its patch."""
    provenance = Provenance.collect(["train"], folder / "toy.yaml")
    return run(provenance.commit), provenance.diff.decode()


def test_code_is_compared_across_commits_and_uncommitted_changes(repository: Path) -> None:
    first, no_patch = state(repository)
    (repository / "net.py").write_text("width = 9\ndepth = 2\n")
    changed, patch = state(repository)
    answer = code_differences(first, changed, (no_patch, patch))
    assert answer["files"] == ["net.py"] and answer["note"] is None and answer["left_out"] == 0
    assert answer["b"] == f"{answer['a']}+"
    assert answer["diff"].splitlines()[-3:] == ["-width = 1", "+width = 9", " depth = 2"]
    commit(repository)
    committed, empty = state(repository)
    same = code_differences(changed, committed, (patch, empty))
    assert same["a"] != same["b"] and same["files"] == [] and same["diff"] == "", "it is the same code"
    (repository / "other.py").write_text("\n".join(f"x = {n}" for n in range(500)))
    long = code_differences(committed, state(repository)[0], (empty, state(repository)[1]))
    assert long["files"] == ["other.py"] and len(long["diff"].splitlines()) == LINES and long["left_out"] > 250


def test_a_new_and_a_removed_file_are_in_the_diff(repository: Path) -> None:
    first, no_patch = state(repository)
    (repository / "other.py").unlink()
    (repository / "new.py").write_text("y = 1\n")
    git(repository, "add", "-A")
    changed, patch = state(repository)
    answer = code_differences(first, changed, (no_patch, patch))
    assert answer["files"] == ["new.py", "other.py"]
    assert "+y = 1" in answer["diff"] and "-x = 1" in answer["diff"]


def test_code_that_is_not_known_is_said(repository: Path) -> None:
    first, patch = state(repository)
    assert "neither run" in code_differences(run(), run(), ("", ""))["note"]
    assert "one of the runs" in code_differences(first, run(), (patch, ""))["note"]
    assert "is not in the repository" in code_differences(first, run("1" * 40), (patch, ""))["note"]
    outside = "diff --git a/../../x b/../../x\nnew file mode 100644\n--- /dev/null\n+++ b/../../x\n@@ -0,0 +1 @@\n+1\n"
    answer = code_differences(first, first, (patch, outside))
    assert answer["diff"] == "" and answer["note"] is not None, (
        "a patch from elsewhere writes nothing outside its folder"
    )
