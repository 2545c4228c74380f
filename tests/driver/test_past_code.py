"""A run's code is made again from git, its patch and its kept sources, and what differs from today's is named."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from studies.driver.past_code import PastCode, package_differences, past_code
from studies.driver.provenance import Provenance
from studies.protocol.trial_spec import TrialSpec

NET = "import helper\n\n\nclass Net:\n    width = 1\n"
EXPERIMENT = {"model": {"class_path": "net.Net"}, "trainer": {}}


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A commit, an uncommitted change and an untracked source."""
    top = tmp_path / "repository"
    (top / "src").mkdir(parents=True)
    git(top, "init", "-q")
    (top / "src" / "net.py").write_text(NET)
    git(top, "add", "-A")
    git(top, "commit", "-qm", "first")
    (top / "src" / "net.py").write_text(NET.replace("width = 1", "width = 2"))
    (top / "src" / "helper.py").write_text("DEPTH = 1\n")
    monkeypatch.chdir(top)
    return top


def kept(folder: Path, spec: TrialSpec) -> Path:
    """The provenance of a run that is trained now."""
    Provenance.collect([], Path.cwd() / "x.yaml", spec.experiment, spec.search_path).write(folder / "provenance")
    return folder / "provenance"


def spec_in(folder: Path) -> TrialSpec:
    return TrialSpec("run", EXPERIMENT, 0, "unused", search_path=[str(folder)])


def again(spec: TrialSpec, provenance: Path, scratch: Path) -> PastCode:
    scratch.mkdir()
    return past_code(spec, provenance, None, scratch)


def test_a_commit_with_changes_and_untracked_sources(repository: Path, tmp_path: Path) -> None:
    spec = spec_in(repository / "src")
    provenance = kept(tmp_path, spec)
    assert again(spec, provenance, tmp_path / "unchanged").changed == []
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "second")
    (repository / "src" / "net.py").write_text(NET.replace("width = 1", "width = 3"))
    (repository / "src" / "helper.py").write_text("# deeper\nDEPTH = 2\n")
    before = git(repository, "status", "--porcelain")
    code = again(spec, provenance, tmp_path / "scratch")
    assert "width = 2" in (Path(code.folders[0]) / "net.py").read_text()
    assert (Path(code.folders[0]) / "helper.py").read_text() == "DEPTH = 1\n"
    assert code.today == [str(repository / "src")] and code.notes == []
    assert code.changed == ["net.py:5: width = 2 -> width = 3", "helper.py:1: DEPTH = 1 -> # deeper"]
    assert git(repository, "status", "--porcelain") == before
    assert git(repository, "worktree", "list").count("\n") == 1


def test_code_outside_the_repository_is_kept(repository: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "net.py").write_text(NET)
    (outside / "helper.py").write_text("DEPTH = 1\n")
    (outside / "unrelated.py").write_text("")
    spec = spec_in(outside)
    provenance = kept(tmp_path, spec)
    (outside / "helper.py").write_text("DEPTH = 2\n")
    code = again(spec, provenance, tmp_path / "scratch")
    assert sorted(path.name for path in Path(code.folders[0]).iterdir()) == ["helper.py", "net.py"]
    assert code.changed == ["helper.py:1: DEPTH = 1 -> DEPTH = 2"]


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    monkeypatch.chdir(outside)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (outside / "net.py").write_text("class Net: ...\n")
    spec = spec_in(outside)
    provenance = kept(tmp_path, spec)
    (outside / "net.py").unlink()
    code = again(spec, provenance, tmp_path / "scratch")
    assert (Path(code.folders[0]) / "net.py").read_text() == "class Net: ...\n"
    assert code.changed == ["net.py is gone"]


def test_a_repository_that_has_moved(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_in(repository / "src")
    provenance = kept(tmp_path, spec)
    moved = repository.rename(tmp_path / "moved")
    monkeypatch.chdir(moved)
    code = again(spec, provenance, tmp_path / "scratch")
    assert code.today == [str(moved / "src")] and code.changed == []


def test_a_commit_that_is_nowhere_is_refused(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_in(repository / "src")
    provenance = kept(tmp_path, spec)
    (repository / ".git").rename(tmp_path / "git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(
        ValueError, match=r"no git repository here has the run's commit \w{10}: fetch it, or give --here"
    ):
        again(spec, provenance, tmp_path / "scratch")


def test_a_patch_that_does_not_apply_is_refused(repository: Path, tmp_path: Path) -> None:
    spec = spec_in(repository / "src")
    provenance = kept(tmp_path, spec)
    patch = provenance / "diff.patch"
    patch.write_text(patch.read_text().replace("-    width = 1", "-    width = 9"))
    with pytest.raises(ValueError, match="uncommitted changes cannot be applied"):
        again(spec, provenance, tmp_path / "scratch")


def test_what_was_not_kept_is_said(repository: Path, tmp_path: Path) -> None:
    (repository / ".gitignore").write_text("*.env\n")
    (repository / "src" / "large.py").write_text("# " + "x" * 1_100_000)
    spec = spec_in(repository / "src")
    code = again(spec, kept(tmp_path, spec), tmp_path / "scratch")
    assert code.notes == ["not kept with the run: untracked: src/large.py"]
    older = kept(tmp_path / "older", replace(spec, search_path=[]))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "net.py").write_text(NET)
    code = again(spec_in(tmp_path / "elsewhere"), older, tmp_path / "other")
    assert f"the code in {tmp_path / 'elsewhere'} was not kept with the run: today's is used" in code.notes


def test_a_secret_in_the_sources_is_never_kept(repository: Path, tmp_path: Path) -> None:
    (repository / "secrets.yaml").write_text("a: b\n")
    (repository / "src" / "helper.py").write_text('password = "correct horse battery staple"\n')
    patch = (kept(tmp_path, spec_in(repository / "src")) / "diff.patch").read_text()
    assert "secrets.yaml" not in patch.partition("diff --git")[2] and "horse" not in patch


def test_packages() -> None:
    then = "# Python 3.11.2, Linux\na==1.0\nb==2\ngone==1\n"
    now = "# Python 3.12.0, Linux\na==1.1\nb==2\nnew==3\n"
    assert [difference.text for difference in package_differences(then, now)] == [
        "Python 3.11.2 is now 3.12.0",
        "a 1.0 is now 1.1",
        "gone 1 is gone",
        "new 3 is new",
    ]
    assert package_differences(then, then) == package_differences("", now) == []
