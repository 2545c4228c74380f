"""Provenance of a run: command, code and packages. Written as files to the run's folder at each start.

Files that hold secrets, and files that git ignores, never enter the diff; other secrets that are recognized in the
command and the diff are replaced by ***.
"""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from studies.common.locks import this_process
from studies.common.redaction import redacted, without_secrets
from studies.protocol.metric_names import stored_text

LARGEST = 20_000_000  # bytes of the largest diff that is stored
MOST_LEFT_OUT = 500  # files; with more, there is no diff
# Names of files that hold secrets, in any folder and any case.
SECRET_FILES = [".env", ".env.*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.kdbx", "*.tfvars", "id_rsa*"]
SECRET_FILES += ["id_ed25519*", ".netrc", ".pgpass", ".npmrc", ".pypirc", ".htpasswd", "credentials", "credentials.*"]
SECRET_FILES += ["secrets.*"]
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

    The diff is bytes, like the files. Lines starting with # before it list what it leaves out: untracked files, files
    of secrets and ignored files, secrets in other files, or the whole diff if it is too large.
    """

    command: str
    commit: str | None
    diff: bytes
    packages: str

    @classmethod
    def collect(cls, argv: list[str], near: Path) -> Provenance:
        """Uses the repository of the current directory, or else that of the experiment file."""
        places = dict.fromkeys((Path.cwd(), near.parent))
        tops = (_git(place, "rev-parse", "--show-toplevel") for place in places)
        top = next((os.fsdecode(answer.removesuffix(b"\n")) for answer in tops if answer), None)
        commit, diff = _code(Path(top)) if top else (None, b"")
        found = {f"{item.metadata['Name']}=={item.version}" for item in importlib.metadata.distributions()}
        packages = "\n".join([f"# Python {platform.python_version()}, {platform.platform()}", *sorted(found)])
        command = stored_text(shlex.join(["harness", *without_secrets(argv)]))
        return cls(command, commit, diff, packages + "\n")

    def write(self, folder: Path) -> None:
        """Writes command.txt, packages.txt and, where there is one, diff.patch."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "command.txt").write_text(self.command + "\n", encoding="utf-8")
        (folder / "packages.txt").write_text(self.packages, encoding="utf-8")
        if self.commit or self.diff:
            (folder / "diff.patch").write_bytes(self.diff)

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
    answer = _git(top, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    commit = answer.decode("ascii", "replace").strip() if answer else None
    notes = []
    new = _git(top, "ls-files", "--others", "--exclude-standard", "-z")
    notes += [b"# untracked: " + name.replace(b"\n", b"?") + b"\n" for name in (new or b"").split(b"\0") if name]
    since = commit or (_git(top, "hash-object", "-t", "tree", "/dev/null") or b"").decode().strip()  # an empty tree
    secret = _secret_files(top, since)
    notes += [b"# left out: " + name.replace(b"\n", b"?") + b"\n" for name in secret[:MOST_LEFT_OUT]]
    excluded = [b":(exclude,top,literal)" + name for name in secret]
    if len(secret) > MOST_LEFT_OUT:
        return commit, b"".join([*notes, b"# and more files of secrets: nothing of the diff is kept\n"])
    diff = _git(top, "diff", *PATCH, since, "--", *map(os.fsdecode, excluded))
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
    changed = (_git(top, "diff", "--name-only", "--no-renames", "-z", since, "--") or b"").split(b"\0")
    if not any(changed):
        return []
    ignored = set((_git(top, "ls-files", "--cached", "--ignored", "--exclude-standard", "-z") or b"").split(b"\0"))

    def is_secret(name: bytes) -> bool:
        base = os.fsdecode(name).rpartition("/")[2].lower()
        return name in ignored or any(fnmatchcase(base, pattern) for pattern in SECRET_FILES)

    return [name for name in changed if name and is_secret(name)]


def _git(folder: Path, *arguments: str) -> bytes | None:
    """git's output, or None if it fails, hangs or is not installed. git neither prompts nor writes (e.g. its index)."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    for name in ("GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS", "GIT_PAGER"):
        environment.pop(name, None)
    command = ["git", "--no-pager", "-C", str(folder), *PLAIN, *arguments]
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, env=environment
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return result.stdout if result.returncode == 0 else None
