"""In what two runs differ: parameters, code, packages and data. The code is read with git, nothing is imported."""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from studies.common.regular_files import read_text
from studies.common.state_folder import StateFolder
from studies.driver.provenance import SECONDS, git, versions_of
from studies.driver.session import PROVENANCE
from studies.tracking.client import Tracking
from studies.tracking.run_info import RunInfo

LARGEST = 20_000_000  # bytes of a provenance file
LINES = 200  # of the unified diff
COMMIT = "mlflow.source.git.commit"  # MLflow's tag
OF_FILE = re.compile(r"^diff --git a/(.+) b/\1$", re.MULTILINE)


def parameter_differences(one: RunInfo, other: RunInfo) -> list[dict[str, Any]]:
    """`name`, `a` and `b` of each parameter that differs; None where a run does not have it."""
    return _differing(one.params, other.params)


def data_differences(one: RunInfo, other: RunInfo) -> list[dict[str, Any]]:
    """`split`, `a`, `b` (data sets, by name and digest) and `classes` (the sizes of classes that differ)."""
    found = []
    order = ("train", "val", "test")
    for split in [*order, *sorted({*one.data, *other.data} - {*order})]:
        sets = [run.data.get(split, []) for run in (one, other)]
        said = [", ".join(item.described() for item in items) or None for items in sets]
        if said[0] != said[1]:
            counts = [items[-1].classes if items else {} for items in sets]
            found.append({"split": split, "a": said[0], "b": said[1], "classes": _differing(*counts)})
    return found


def package_differences(one: str, other: str) -> list[dict[str, Any]]:
    """`name`, `a` and `b` of each package whose version differs.

    Args:
        one, other: packages.txt of both runs: lines such as torch==2.15.0, and # Python 3.11.9, Linux-...
    """
    return _differing(versions_of(one), versions_of(other))


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[dict[str, Any]]:
    names = sorted(name for name in {**one, **other} if one.get(name) != other.get(name))
    return [{"name": name, "a": one.get(name), "b": other.get(name)} for name in names]


def provenance_file(run: RunInfo, name: str, tracking: Tracking, state_folder: StateFolder, scratch: Path) -> str:
    """A file of a run's provenance, or "". A trial's is among the artifacts of its study's run.

    Args:
        name: packages.txt or diff.patch.
        scratch: a folder for downloads.
    """
    folder = run.tags.get("harness.provenance", PROVENANCE)
    holder = run.tags.get("mlflow.parentRunId", run.run_id) if "harness.provenance" in run.tags else run.run_id
    if not re.fullmatch(rf"{PROVENANCE}(/[0-9a-f]+)?", folder):
        return ""
    try:
        path = state_folder.trial_folder(holder) / "artifacts" / folder / name
        if not path.is_file():
            into = scratch / holder
            into.mkdir(exist_ok=True)
            path = tracking.fetch(holder, f"{folder}/{name}", into)
        return read_text(path, LARGEST)
    except Exception:  # of a run of another program, or on a server without it
        return ""


def code_differences(one: RunInfo, other: RunInfo, patches: tuple[str, str]) -> dict[str, Any]:
    """In what the code of two runs differs.

    Args:
        patches: what was not committed, as a patch, of each; see provenance.py.

    Returns:
        `a` and `b` (commits, with + where something was not committed; None if unknown), `files` that differ, `diff`
        (unified, of up to LINES lines), `left_out` (number of further lines) and `note` (what could not be compared, or
        None).
    """
    commits = [run.tags.get(COMMIT) for run in (one, other)]
    parts = [_by_file(patch) for patch in patches]
    said = [
        f"{commit[:12]}{'+' if part else ''}" if commit else None for commit, part in zip(commits, parts, strict=True)
    ]
    answer: dict[str, Any] = {"a": said[0], "b": said[1], "files": [], "diff": "", "left_out": 0, "note": None}
    first, second = commits
    if first is None or second is None:
        which = "neither run was" if first == second else "one of the runs was not"
        return {**answer, "note": f"{which} started in a git repository: the code of such a run is not known"}
    files = {name for name in {**parts[0], **parts[1]} if first != second or parts[0].get(name) != parts[1].get(name)}
    here = Path.cwd()
    if first != second:
        between = git(here, "diff", "--name-only", "--no-renames", "-z", first, second, "--")
        if between is None:
            note = f"commit {first[:12]} or {second[:12]} is not in the repository of this folder"
            return {**answer, "files": sorted(files), "note": note}
        files |= {name for name in between.decode(errors="replace").split("\0") if name}
    lines: list[str] = []
    for name in sorted(files):
        contents = [
            _content(here, commit, name, part.get(name)) for commit, part in zip((first, second), parts, strict=True)
        ]
        if contents[0] is None or contents[1] is None:
            answer["note"] = (
                f"commits {first[:12]} and {second[:12]} have to be in the repository of this folder for a diff"
            )
            answer["files"].append(name)
        elif contents[0] != contents[1]:
            answer["files"].append(name)
            before, after = (content.splitlines() for content in contents if content is not None)
            lines += difflib.unified_diff(before, after, f"a/{name}", f"b/{name}", lineterm="")
    return {**answer, "diff": "\n".join(lines[:LINES]), "left_out": max(0, len(lines) - LINES)}


def _by_file(patch: str) -> dict[str, str]:
    """File -> its part of a patch."""
    starts = [*OF_FILE.finditer(patch)]
    ends = [*(start.start() for start in starts[1:]), len(patch)]
    return {start[1]: patch[start.start() : end] for start, end in zip(starts, ends, strict=False)}


def _content(here: Path, commit: str, name: str, patch: str | None) -> str | None:
    """A file of a commit with a patch applied, "" if it is not there; None if that cannot be found out."""
    if git(here, "cat-file", "-e", f"{commit}^{{commit}}") is None:
        return None
    committed = git(here, "show", f"{commit}:{name}")
    if patch is None:
        return (committed or b"").decode(errors="replace")
    with tempfile.TemporaryDirectory(prefix="harness-diff-") as folder:
        path = (Path(folder) / name).resolve()
        if not path.is_relative_to(Path(folder).resolve()):
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        if committed is not None:
            path.write_bytes(committed)
        command = ["git", "apply", "--whitespace=nowarn", "-"]
        outside = {"GIT_CEILING_DIRECTORIES": str(Path(folder).parent), "PATH": os.environ.get("PATH", "")}
        try:
            applied = subprocess.run(
                command,
                cwd=folder,
                input=patch.encode("utf-8", "surrogateescape"),
                capture_output=True,
                timeout=SECONDS,
                env=outside,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        if applied.returncode:
            return None
        return path.read_bytes().decode(errors="replace") if path.is_file() else ""
