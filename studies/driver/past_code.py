"""A run's code, made again from its provenance, and what differs from today's. Imports neither torch nor MLflow.

A repository is only read: the commit's files are checked out into a temporary folder, and the run's patch is applied to
them there. So nothing is left behind in it, even if this process is killed.
"""

from __future__ import annotations

import difflib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from studies.common import sources
from studies.driver.provenance import OUTSIDE, PLACES, git, harness_digests, versions_of
from studies.protocol.trial_spec import TrialSpec

OR_HERE = ", or give --here to train with today's code"
SHOWN = 60  # characters of a changed line
CHECKOUT_SECONDS = 300.0


class Difference(NamedTuple):
    """What differs between a run and its replay. `kind`: code, harness, data, package or setting."""

    kind: str
    text: str


@dataclass
class PastCode:
    """A run's code.

    Attributes:
        folders: search path with the run's code.
        today: the same with today's.
        changed: the files behind the run's classes in which today's code differs, as "net.py:12: ... -> ...".
        notes: what could not be made again, a line each.
        has_shipped: the harness's own modules and datamodules are in the same repository, and so among the code.
    """

    folders: list[str]
    today: list[str]
    changed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    has_shipped: bool = False


def past_code(spec: TrialSpec, provenance: Path, commit: str | None, scratch: Path) -> PastCode:
    """Makes a run's code again.

    Args:
        provenance: the folder with the run's provenance; of older versions it has no code.json.
        commit: of the run, if it is not in there.
        scratch: an empty folder, where the code goes.

    Raises:
        ValueError: in one line: no repository here has its commit, or its patch cannot be applied.
    """
    places = _places(provenance)
    commit = places.get("commit") or commit
    patch = provenance / "diff.patch"
    top_then: str | None = places.get("repository")
    top_now: Path | None = None
    code = PastCode([], [])
    if commit is not None or patch.is_file():
        top_now = _repository(commit, [top_then, os.getcwd(), *spec.search_path])
        if top_now is None:
            raise ValueError(f"no git repository here has the run's commit {(commit or '')[:10]}: fetch it{OR_HERE}")
        top_then = top_then or str(top_now)
        _check_out(top_now, commit, scratch)
        code.notes += _apply(patch, scratch)
    folders = list(spec.search_path)
    if top_now is not None and not _is_ours(top_now):  # of the user's packages that are installed in editable mode
        theirs = [item for item in sys.path if os.path.isabs(item) and _inside(item, top_then) is not None]
        folders += [item for item in theirs if item not in folders]
    for folder in folders:
        inside = _inside(folder, top_then) if top_now is not None else None
        code.today.append(folder if inside is None else str(top_now / inside))  # type: ignore[operator]
        kept = places.get("folders", [])
        if inside is not None:
            code.folders.append(str(scratch / inside))
        elif folder in kept:
            code.folders.append(str(provenance / OUTSIDE / str(kept.index(folder))))
        else:
            code.folders.append(folder)
            found = next(sources.files_behind(spec.experiment, [Path(folder)]), None)
            if found is not None and sources.OBJECTS not in Path(folder).parts:
                code.notes.append(f"the code in {folder} was not kept with the run: today's is used")
    if top_now is not None and _is_ours(top_now):  # our own modules and datamodules
        code.has_shipped = True
        shipped = _changed(spec.experiment, [str(scratch)], [str(top_now)])
        code.changed += shipped
        code.folders += [str(scratch)] if shipped else []
    code.changed += [line for line in _changed(spec.experiment, code.folders, code.today) if line not in code.changed]
    return code


def harness_differences(provenance: Path, code: PastCode) -> list[Difference]:
    """The harness's own packages that are not as they were in the run, and were not made again."""
    then, now = _places(provenance).get("harness", {}), harness_digests()
    return [
        Difference("harness", f"the harness's own code in {name}/ is not as it was in the run")
        for name in now
        if then.get(name, now[name]) != now[name] and not (code.has_shipped and name in sources.SHIPPED)
    ]


def package_differences(then: str, now: str) -> list[Difference]:
    """The packages, and the Python, that are not as they were, given as in packages.txt."""
    before, after = versions_of(then), versions_of(now)
    for versions in (before, after):
        versions.pop("platform", None)  # each update of a kernel changes it, and no training
    if not before:
        return []
    found = [
        Difference(
            "package", f"{name} {version} is now {after[name]}" if name in after else f"{name} {version} is gone"
        )
        for name, version in before.items()
        if after.get(name) != version
    ]
    return found + [
        Difference("package", f"{name} {version} is new") for name, version in after.items() if name not in before
    ]


def _places(provenance: Path) -> dict[str, Any]:
    try:
        found = json.loads((provenance / PLACES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _repository(commit: str | None, folders: Sequence[str | None]) -> Path | None:
    """The first repository around one of the folders that has the commit; without a commit, the first."""
    for folder in dict.fromkeys(item for item in folders if item and os.path.isdir(item)):
        top = git(Path(folder), "rev-parse", "--show-toplevel")
        if top and (commit is None or git(Path(folder), "cat-file", "-e", f"{commit}^{{commit}}") is not None):
            return Path(os.fsdecode(top.removesuffix(b"\n")))
    return None


def _check_out(top: Path, commit: str | None, scratch: Path) -> None:
    """Writes a commit's files, by an index of its own, so that the repository's is not touched."""
    if commit is None:
        return
    index = scratch.with_name(f"{scratch.name}.index")
    environment = {**os.environ, "GIT_INDEX_FILE": str(index), "GIT_TERMINAL_PROMPT": "0"}
    command = ["git", "-C", str(top)]
    try:
        for arguments in (["read-tree", commit], ["checkout-index", "--all", f"--prefix={scratch}/"]):
            subprocess.run(
                [*command, *arguments], check=True, capture_output=True, timeout=CHECKOUT_SECONDS, env=environment
            )
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().splitlines()
        raise ValueError(
            f"git cannot check out the run's commit {commit[:10]}: {said[-1] if said else error}"
        ) from error


def _apply(patch: Path, scratch: Path) -> list[str]:
    """Applies a run's patch; returns what the patch leaves out, a line each."""
    if not patch.is_file():
        return []
    content = patch.read_bytes()
    head = [line[2:].decode(errors="replace") for line in content.split(b"\n") if line.startswith(b"# ")]
    notes = [f"of the run's code: {line}" for line in head if not line.startswith("untracked: ")]
    notes += [
        f"not kept with the run: {line}" for line in head if line.startswith("untracked: ") and line.endswith(".py")
    ]
    if b"diff --git " not in content:
        return notes
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(scratch.parent), "LC_ALL": "C"}
    command = ["git", "-C", str(scratch), "apply", "--whitespace=nowarn", str(patch.absolute())]
    result = subprocess.run(command, capture_output=True, env=environment, timeout=CHECKOUT_SECONDS)
    if result.returncode:
        said = result.stderr.decode(errors="replace").strip().splitlines()
        raise ValueError(
            f"the run's uncommitted changes cannot be applied ({said[0] if said else 'git apply failed'}){OR_HERE}"
        )
    return notes


def _inside(folder: str, top: str | None) -> Path | None:
    """A folder's path in a repository, None if it is elsewhere."""
    if top is None:
        return None
    for one, other in ((Path(folder), Path(top)), (Path(folder).resolve(), Path(top).resolve())):
        if one.is_relative_to(other):
            return one.relative_to(other)
    return None


def _is_ours(top: Path) -> bool:
    return top.resolve() == sources.OURS.resolve()


def _changed(sections: dict[str, Any], then: Sequence[str], now: Sequence[str]) -> list[str]:
    before, after = _contents(sections, then), _contents(sections, now)
    found = []
    for name in dict.fromkeys([*before, *after]):
        if name not in after:
            found.append(f"{name} is gone")
        elif name not in before:
            found.append(f"{name} is new")
        elif before[name] != after[name]:
            found.append(f"{name}{_first_change(before[name], after[name])}")
    return found


def _contents(sections: dict[str, Any], folders: Sequence[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for folder, path in sources.files_behind(sections, [Path(item) for item in folders], shipped=True):
        try:
            found.setdefault(path.relative_to(folder).as_posix(), path.read_bytes())
        except OSError:
            continue
    return found


def _first_change(then: bytes, now: bytes) -> str:
    """ ":12: old -> new", with the line's number in today's file."""
    before = then.decode("utf-8", "replace").splitlines()
    after = now.decode("utf-8", "replace").splitlines()
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for kind, start, end, new_start, new_end in matcher.get_opcodes():
        if kind != "equal":
            old = before[start].strip() if start < end else "nothing"
            new = after[new_start].strip() if new_start < new_end else "nothing"
            return f":{new_start + 1}: {_shown(old, new)} -> {_shown(new, old)}"
    return ": ends of lines"


def _shown(line: str, other: str) -> str:
    """The part of a line where it differs from another one."""
    pairs = enumerate(zip(line, other, strict=False))
    same = next((place for place, (one, two) in pairs if one != two), min(len(line), len(other)))
    start = 0 if len(line) <= SHOWN else max(0, min(same - SHOWN // 2, len(line) - SHOWN))
    part = line[start : start + SHOWN]
    return f"{'...' if start else ''}{part}{'...' if start + SHOWN < len(line) else ''}"
