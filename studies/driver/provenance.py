"""Provenance of a run: command, code and packages, as files among its artifacts.

The code is a commit with a patch that makes what was trained of it: uncommitted changes, and sources that git does not
track yet. Of code outside that repository, the files behind the experiment's classes are stored.

A study's run has those of all its trials, in a folder for each start with another command, code or packages; a trial's
tag harness.provenance names its folder there.

Files that hold secrets, and files that git ignores, never enter the diff; other secrets that are recognized in the
command and the diff are replaced by ***.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from studies.common import sources
from studies.common.locks import this_process
from studies.common.redaction import redacted, without_secrets
from studies.protocol.metric_names import stored_text

LARGEST = 20_000_000  # bytes of the largest diff that is stored
MOST_LEFT_OUT = 500  # files; with more, there is no diff
# Names of files that hold secrets, in any folder and any case.
SECRET_FILES = [".env", ".env.*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.kdbx", "*.tfvars", "id_rsa*"]
SECRET_FILES += ["id_ed25519*", ".netrc", ".pgpass", ".npmrc", ".pypirc", ".htpasswd", "credentials", "credentials.*"]
SECRET_FILES += ["secrets.*"]
# Untracked files that are stored: what a training may be made of, and no data.
SOURCES = (".py", ".pyi", ".pyx", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".c", ".cc", ".cpp", ".cu", ".h")
LARGEST_SOURCE, MOST_SOURCES = 1_000_000, 500  # bytes of a file, files
OUTSIDE = "sources"  # folder of the files from outside the repository, in a folder for each of theirs: 0, 1, ...
PLACES = "code.json"  # where the code was: repository, working folder, the folders of the files from outside
TRAINING = ("studies/trial", "studies/acceleration", *sources.SHIPPED)  # the harness's own code that trains
SECONDS = 20.0  # timeout of each git call
# Whatever the user's git configuration: a patch that `git apply` accepts, and no external diff program.
PLAIN = ["-c", "core.quotePath=true", "-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false"]
PLAIN += ["-c", "diff.submodule=short", "-c", "diff.relative=false", "-c", "core.fsmonitor=false"]
PLAIN += ["-c", "diff.srcPrefix=a/", "-c", "diff.dstPrefix=b/"]
PATCH = [
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--binary",
    "--full-index",
    "--no-renames",
    "--unified=3",
    "-O/dev/null",
]


@dataclass(frozen=True)
class Provenance:
    """Attributes: `command` as typed, git `commit` (or None), uncommitted `diff`, `packages` one per line.

    The diff is bytes, like the files. Lines starting with # before it list what it leaves out: untracked files that are
    no sources, files of secrets and ignored files, secrets in other files, or the whole diff if it is too large.

    `outside` are the files from outside the repository: folder -> path in it -> content; `places` are the repository,
    the working folder and digests of the harness's own packages.
    """

    command: str
    commit: str | None
    diff: bytes
    packages: str
    outside: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    places: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def collect(
        cls, argv: list[str], near: Path, sections: dict[str, Any] | None = None, folders: Sequence[str] = ()
    ) -> Provenance:
        """Uses the repository of the current directory, or else that of the experiment file.

        Args:
            near: the experiment file.
            sections: the experiment's; the files behind its classes are kept if they are outside the repository.
            folders: where its classes are imported from.
        """
        near_by = dict.fromkeys((Path.cwd(), near.parent))
        tops = (git(place, "rev-parse", "--show-toplevel") for place in near_by)
        top = next((os.fsdecode(answer.removesuffix(b"\n")) for answer in tops if answer), None)
        commit, diff = _code(Path(top)) if top else (None, b"")
        found = {f"{item.metadata['Name']}=={item.version}" for item in importlib.metadata.distributions()}
        packages = "\n".join([f"# Python {platform.python_version()}, {platform.platform()}", *sorted(found)])
        command = stored_text(shlex.join(["harness", *without_secrets(argv)]))
        outside = dict(_outside(sections or {}, folders, Path(top) if top else None))
        places: dict[str, Any] = {
            "commit": commit,
            "repository": top,
            "working_folder": os.getcwd(),
            "harness": harness_digests(),
        }
        return cls(command, commit, diff, packages + "\n", outside, places)

    @cached_property
    def digest(self) -> str:
        """Eight hexadecimal digits, equal for equal provenances."""
        kept = [
            f"{folder}/{name} {content.hex()}"
            for folder, files in self.outside.items()
            for name, content in files.items()
        ]
        harness = json.dumps(self.places.get("harness"), sort_keys=True)
        parts = (self.command, self.commit or "", self.packages, "\n".join(sorted(kept)), harness)
        lengths = b"".join(b"%d " % len(part.encode()) for part in parts)
        return hashlib.sha256(lengths + "".join(parts).encode() + self.diff).hexdigest()[:8]

    def write(self, folder: Path) -> None:
        """Writes command.txt, packages.txt, code.json and, where there are any, diff.patch and sources/."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "command.txt").write_text(self.command + "\n", encoding="utf-8")
        (folder / "packages.txt").write_text(self.packages, encoding="utf-8")
        if self.commit or self.diff:
            (folder / "diff.patch").write_bytes(self.diff)
        for number, files in enumerate(self.outside.values()):
            for name, content in files.items():
                path = folder / OUTSIDE / str(number) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        places = {**self.places, "folders": list(self.outside)}
        (folder / PLACES).write_text(json.dumps(places, indent=1) + "\n", encoding="utf-8")

    @cached_property
    def tags(self) -> dict[str, str]:
        """The provenance under MLflow's own tag names."""
        tags = {
            "mlflow.source.name": self.command,
            "mlflow.source.type": "LOCAL",
            "mlflow.user": _user(),
            "harness.python": sys.version.split()[0],
            "harness.driver": this_process(),
        }
        return tags | ({"mlflow.source.git.commit": self.commit} if self.commit else {})


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, the user id may have no name
        return "unknown"


def _code(top: Path) -> tuple[str | None, bytes]:
    """A repository's commit, or None if it has none yet, and the uncommitted diff, as bytes."""
    answer = git(top, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    commit = answer.decode("ascii", "replace").strip() if answer else None
    notes = []
    new = git(top, "ls-files", "--others", "--exclude-standard", "-z")
    untracked = [name for name in (new or b"").split(b"\0") if name]
    added = [name for name in untracked if _is_source(top, name)][:MOST_SOURCES]
    left = sorted(set(untracked) - set(added), key=untracked.index)
    notes += [b"# untracked: " + name.replace(b"\n", b"?") + b"\n" for name in left]
    since = commit or (git(top, "hash-object", "-t", "tree", "/dev/null") or b"").decode().strip()  # an empty tree
    secret = _secret_files(top, since)
    notes += [b"# left out: " + name.replace(b"\n", b"?") + b"\n" for name in secret[:MOST_LEFT_OUT]]
    excluded = [b":(exclude,top,literal)" + name for name in secret]
    if len(secret) > MOST_LEFT_OUT:
        return commit, b"".join([*notes, b"# and more files of secrets: nothing of the diff is kept\n"])
    with _index_with(top, added) as environment:
        diff = git(top, "diff", *PATCH, since, "--", *map(os.fsdecode, excluded), environment=environment)
    if diff is None:
        notes.append(b"# git failed to make the diff, or took too long\n")
    elif len(diff) > LARGEST:
        notes.append(b"# what was changed is %d bytes, more than the %d that are kept\n" % (len(diff), LARGEST))
        diff = None
    else:
        text = diff.decode("utf-8", "surrogateescape")
        hidden = redacted(text)
        if hidden != text:
            pairs = zip(text.split("\n"), hidden.split("\n"), strict=True)
            notes.append(b"# secrets are hidden in %d lines: the diff may not apply\n" % sum(a != b for a, b in pairs))
            diff = hidden.encode("utf-8", "surrogateescape")
    return commit, b"".join(notes) + (diff or b"")


def _secret_files(top: Path, since: str) -> list[bytes]:
    """Changed files that must not be stored: by their name, or because git ignores them although it tracks them."""
    changed = (git(top, "diff", "--name-only", "--no-renames", "-z", since, "--") or b"").split(b"\0")
    if not any(changed):
        return []
    ignored = set((git(top, "ls-files", "--cached", "--ignored", "--exclude-standard", "-z") or b"").split(b"\0"))

    return [name for name in changed if name and (name in ignored or _is_of_secrets(os.fsdecode(name)))]


def _is_of_secrets(name: str) -> bool:
    base = name.rpartition("/")[2].lower()
    return any(fnmatchcase(base, pattern) for pattern in SECRET_FILES)


def _is_source(top: Path, name: bytes) -> bool:
    """Whether an untracked file is stored."""
    path = top / os.fsdecode(name)
    try:
        small = path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST_SOURCE
    except OSError:
        return False
    return small and path.suffix in SOURCES and not _is_of_secrets(path.name)


@contextlib.contextmanager
def _index_with(top: Path, added: list[bytes]) -> Iterator[dict[str, str]]:
    """An environment in which `git diff` shows untracked files as new ones: a copy of the index names them."""
    place = git(top, "rev-parse", "--git-path", "index") if added else None
    if place is None:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="harness-index-") as scratch:
        index, environment = top / os.fsdecode(place.removesuffix(b"\n")), {"GIT_INDEX_FILE": f"{scratch}/index"}
        if index.is_file():
            # With its time, by which git knows a file that was changed right after a commit without a new size.
            shutil.copy2(index, f"{scratch}/index")
        names = [os.fsdecode(b":(top,literal)" + name) for name in added]
        told = git(top, "add", "--intent-to-add", "--", *names, environment=environment)
        yield {} if told is None else environment


def _outside(
    sections: dict[str, Any], folders: Sequence[str], top: Path | None
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The files behind the classes that are not in the repository, by the folder where they were found."""
    found: dict[str, dict[str, bytes]] = {}
    budget = LARGEST
    for folder, path in sources.files_behind(sections, [Path(item) for item in folders]):
        if (top is not None and path.resolve().is_relative_to(top.resolve())) or sources.OBJECTS in folder.parts:
            continue
        try:
            content = path.read_bytes()
        except OSError:
            continue
        if len(content) > min(LARGEST_SOURCE, budget) or _is_of_secrets(path.name):
            continue
        budget -= len(content)
        text = redacted(content.decode("utf-8", "surrogateescape"))
        found.setdefault(str(folder), {})[path.relative_to(folder).as_posix()] = text.encode("utf-8", "surrogateescape")
    yield from found.items()


def harness_digests() -> dict[str, str]:
    """Digests of the harness's own packages that train, which may have changed without a new version."""
    return {name: sources.digest_of(sources.OURS / name) for name in TRAINING}


def versions_of(packages: str) -> dict[str, str]:
    """Package -> version, of a text as in packages.txt; Python and the platform are among them."""
    found: dict[str, str] = {}
    for line in packages.splitlines():
        name, sign, version = line.partition("==")
        python = re.match(r"# Python (\S+?), (.*)", line)
        if python:
            found |= {"Python": python[1], "platform": python[2]}
        elif sign and not line.startswith("#"):
            found[name.strip()] = version.strip()
    return found


def git(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> bytes | None:
    """git's output, or None if it fails, hangs or is not installed. git neither prompts nor writes (e.g. its index)."""
    variables = {
        **os.environ,
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
        **(environment or {}),
    }
    for name in ("GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS", "GIT_PAGER"):
        variables.pop(name, None)
    command = ["git", "--no-pager", "-C", str(folder), *PLAIN, *arguments]
    try:
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, env=variables)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return result.stdout if result.returncode == 0 else None
