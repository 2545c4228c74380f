import os
import subprocess
import time
from pathlib import Path

import pytest

from studies.driver import provenance as module
from studies.driver.provenance import Provenance


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, errors="replace").stdout


def test_commit_diff_and_untracked_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("x = 1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "a.py").write_text("x = 2\n")
    (tmp_path / "new.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    provenance = Provenance.collect(["train", "my exp.yaml"], tmp_path / "x.yaml")
    assert provenance.command == "harness train 'my exp.yaml'"
    assert provenance.commit == git(tmp_path, "rev-parse", "HEAD").strip()
    assert b"+x = 2" in provenance.diff and b"# untracked: new.txt" in provenance.diff
    assert "torch==" in provenance.packages
    assert provenance.tags["mlflow.source.git.commit"] == provenance.commit
    provenance.write(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "command.txt",
        "packages.txt",
        "diff.patch",
        "code.json",
    }


def test_outside_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    provenance = Provenance.collect(["list"], tmp_path / "x.yaml")
    assert provenance.commit is None and provenance.diff == b""
    assert "mlflow.source.git.commit" not in provenance.tags


def contents(folder: Path) -> dict[bytes, bytes]:
    """All files of a working tree, by their names' bytes."""
    top = os.fsencode(folder)
    found = {}
    for place, folders, names in os.walk(top):
        if b".git" in folders:
            folders.remove(b".git")
        for name in names:
            path = os.path.join(place, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, top)] = file.read()
    return found


HOSTILE = {
    "diff.noprefix": "true",
    "diff.mnemonicPrefix": "true",
    "color.ui": "always",
    "diff.external": "false",
    "core.quotePath": "false",
    "diff.renames": "copies",
    "diff.relative": "true",
    "diff.context": "0",
    "core.pager": "false",
}


@pytest.mark.parametrize("first_commit", [True, False])
def test_the_patch_makes_the_same_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_commit: bool) -> None:
    """Bytes that are no text, names that are no text, and a configuration that wants patches for people."""
    source = tmp_path / "a b" / "source"
    (source / "below").mkdir(parents=True)
    git(source, "init", "-q")
    (source / "text.py").write_text("x = 1\n" * 50)
    (source / "weights.bin").write_bytes(bytes(range(256)) * 20)
    (source / "latin.txt").write_bytes(b"caf\xe9\r\n")
    (source / ".gitattributes").write_text("*.bin diff=hex\n")
    git(source, "config", "diff.hex.textconv", "xxd")
    if first_commit:
        git(source, "add", "-A")
        git(source, "commit", "-qm", "first")
        git(tmp_path, "clone", "-q", str(source), "clone")
    else:
        git(tmp_path, "init", "-q", "clone")
    for name, value in HOSTILE.items():
        git(source, "config", name, value)
    (source / "text.py").write_text("x = 1\n" * 25 + "x = 2\n" + "x = 1\n" * 24)
    (source / "weights.bin").write_bytes(bytes(reversed(range(256))) * 20)
    (source / "latin.txt").write_bytes(b"caf\xe8\r\nno end")
    (source / "below" / 'ümlaut " quoted.txt').write_text("a\n")
    with open(os.fsencode(source) + b"/below/b\xe4r.txt", "wb") as file:
        file.write(b"b\xe4r\n")
    git(source, "add", "-A")
    monkeypatch.chdir(source / "below")
    provenance = Provenance.collect(["train", "x.yaml"], tmp_path / "x.yaml")
    assert (provenance.commit is not None) is first_commit
    provenance.write(tmp_path / "out")
    git(tmp_path / "clone", "apply", str(tmp_path / "out" / "diff.patch"))
    assert contents(tmp_path / "clone") == contents(source)


def test_untracked_sources_are_in_the_patch_and_data_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.mkdir()
    git(source, "init", "-q")
    (source / "a.py").write_text("x = 1\n")
    (source / ".gitignore").write_text("ignored.py\n")
    git(source, "add", "-A")
    git(source, "commit", "-qm", "first")
    git(tmp_path, "clone", "-q", str(source), "clone")
    (source / "a.py").write_text("x = 2\n")  # the same size, in the same second
    (source / "sub").mkdir()
    (source / "sub" / "mit leerzeichen.py").write_text("no end of line")
    (source / "exp.yaml").write_text("a: 1\n")
    for name in ("data.csv", "ignored.py", "secrets.yaml", "notes.env"):
        (source / name).write_text("1\n")
    index = (source / ".git" / "index").read_bytes()
    monkeypatch.chdir(source)
    provenance = Provenance.collect(["train"], source / "exp.yaml")
    assert (source / ".git" / "index").read_bytes() == index
    notes = [line for line in provenance.diff.split(b"\n") if line.startswith(b"# ")]
    assert notes == [b"# untracked: data.csv", b"# untracked: notes.env", b"# untracked: secrets.yaml"]
    provenance.write(tmp_path / "out")
    git(tmp_path / "clone", "apply", str(tmp_path / "out" / "diff.patch"))
    for left_out in ("data.csv", "ignored.py", "secrets.yaml", "notes.env"):
        (source / left_out).unlink()
    assert contents(tmp_path / "clone") == contents(source)


def test_untracked_files_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    for name in (b"b\xe4r.txt", b"two\nlines", b"space here"):
        with open(os.fsencode(tmp_path) + b"/" + name, "wb"):
            pass
    monkeypatch.chdir(tmp_path)
    lines = Provenance.collect(["list"], tmp_path / "x.yaml").diff.splitlines()
    assert sorted(lines) == [b"# untracked: b\xe4r.txt", b"# untracked: space here", b"# untracked: two?lines"]


def test_a_submodule_is_named_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("inner", "outer"):
        git(tmp_path, "init", "-q", name)
        (tmp_path / name / "a.py").write_text("x = 1\n")
        git(tmp_path / name, "add", "-A")
        git(tmp_path / name, "commit", "-qm", "first")
    outer = tmp_path / "outer"
    git(outer, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(tmp_path / "inner"), "sub")
    git(outer, "commit", "-qm", "second")
    git(outer, "config", "diff.submodule", "log")
    git(outer / "sub", "commit", "-q", "--allow-empty", "-m", "third")
    monkeypatch.chdir(outer)
    diff = Provenance.collect(["list"], outer / "x.yaml").diff
    assert b"+Subproject commit " in diff


def test_a_diff_that_is_too_large_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("x = 1\n" * 1000)
    git(tmp_path, "add", "a.py")
    monkeypatch.setattr(module, "LARGEST", 100)
    monkeypatch.chdir(tmp_path)
    diff = Provenance.collect(["list"], tmp_path / "x.yaml").diff
    assert diff.startswith(b"# what was changed is ") and diff.count(b"\n") == 1


@pytest.mark.parametrize("script", [None, "exit 128", "exec sleep 60"])
def test_git_that_is_missing_refuses_or_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    if script is not None:
        (tmp_path / "git").write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin; {script}\n")
        (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "SECONDS", 0.2)
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    provenance = Provenance.collect(["list"], tmp_path / "x.yaml")
    assert provenance.commit is None and provenance.diff == b""
    assert time.monotonic() - began < 20, "it is not waited for"


def test_secrets_and_ignored_files_stay_out_of_the_diff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    names = [".env", "conf/.ENV.local", "key.pem", "ignored.txt", "code.py"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old\n")
    (tmp_path / ".gitignore").write_text("ignored.txt\nhidden/\n")
    git(tmp_path, "add", "--force", ".")
    git(tmp_path, "commit", "-qm", "first")
    for name in names:
        (tmp_path / name).write_text("planted\n")
    (tmp_path / "code.py").write_text('url = "http://me:planted@host"\nx = 2\n')
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "planted").write_text("planted")
    (tmp_path / "new.env").write_text("planted")
    monkeypatch.chdir(tmp_path)
    provenance = Provenance.collect(["train", "x", "--data.password", "planted"], tmp_path / "x.yaml")
    assert b"planted" not in provenance.diff and "planted" not in provenance.command
    assert b'+url = "http://***@host"\n+x = 2\n' in provenance.diff
    notes = [line for line in provenance.diff.splitlines() if line.startswith(b"#")]
    left_out = [b"# left out: " + os.fsencode(name) for name in sorted(names) if name != "code.py"]
    assert notes == [b"# untracked: new.env", *left_out, b"# secrets are hidden in 1 lines: the diff may not apply"]


def test_a_diff_without_secrets_is_told_apart_from_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    for number in range(3):
        (tmp_path / f"{number}.pem").write_text("planted\n")
    git(tmp_path, "add", ".")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "MOST_LEFT_OUT", 2)
    diff = Provenance.collect(["list"], tmp_path / "x.yaml").diff
    assert diff == b"# left out: 0.pem\n# left out: 1.pem\n# and more files of secrets: nothing of the diff is kept\n"
