"""What a run was made by: command, code, packages. Written as files beside the run, once per start."""

from __future__ import annotations

import getpass
import importlib.metadata
import platform
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from studies.locks import this_process


@dataclass(frozen=True)
class Provenance:
    """Attributes: `command` as typed, git `commit` (or None), uncommitted `diff`, `packages` one per line."""

    command: str
    commit: str | None
    diff: str
    packages: str

    @classmethod
    def collect(cls, argv: list[str], near: Path) -> Provenance:
        """Looks at the repository the user stands in, or else the one the experiment file lies in."""
        folder = next((place for place in (Path.cwd(), near.parent) if _git(place, "rev-parse", "HEAD")), None)
        commit = _git(folder, "rev-parse", "HEAD").strip() if folder else None
        diff = _git(folder, "diff", "HEAD") if folder else ""
        if folder:
            new = _git(folder, "ls-files", "--others", "--exclude-standard")
            diff += "".join(f"# untracked: {line}\n" for line in new.splitlines())
        found = {f"{item.metadata['Name']}=={item.version}" for item in importlib.metadata.distributions()}
        packages = "\n".join([f"# Python {platform.python_version()}, {platform.platform()}", *sorted(found)])
        return cls(shlex.join(["harness", *argv]), commit, diff, packages + "\n")

    def write(self, folder: Path) -> None:
        """Writes command.txt, packages.txt and, where there is one, diff.patch."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "command.txt").write_text(self.command + "\n")
        (folder / "packages.txt").write_text(self.packages)
        if self.commit:
            (folder / "diff.patch").write_text(self.diff)

    @cached_property
    def tags(self) -> dict[str, str]:
        """MLflow's own names for where a run came from."""
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
    except (KeyError, OSError):  # a container may run under a number without a name
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    try:
        result = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout if result.returncode == 0 else ""
