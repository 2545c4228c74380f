"""Where a `harness ui` of a state folder answers: a small file in it, kept while that command runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from studies.common.atomic_files import write_whole
from studies.common.locks import may_live, this_process
from studies.common.regular_files import read_text
from studies.common.state_folder import StateFolder
from studies.common.trust import is_own

NAME = "ui.json"
ADDRESS = re.compile(r"http://(?:[\w.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}")
ANSWER_SECONDS = 1.0


@contextlib.contextmanager
def removed_at_the_end(state_folder: StateFolder) -> Iterator[None]:
    """Removes this process's file after the block."""
    try:
        yield
    finally:
        path = state_folder.folder / NAME
        if _read(path).get("process") == this_process():
            path.unlink(missing_ok=True)


def remember_ui(state_folder: StateFolder, url: str) -> None:
    """Notes that this process serves the folder's database at a URL; another command's note is replaced."""
    address = ADDRESS.match(url)
    if address is not None:
        content = {"url": address[0], "process": this_process(), "database": _digest(state_folder)}
        with contextlib.suppress(OSError):  # the UI works without
            write_whole(state_folder.folder / NAME, json.dumps(content))


def running_ui(state_folder: StateFolder) -> str | None:
    """The address of an MLflow UI that shows this folder's runs and answers now, or None.

    A tracking server has its UI itself. In a folder that somebody else has made, no address is followed.
    """
    if state_folder.is_remote:
        return state_folder.tracking_uri.rstrip("/")
    noted = _read(state_folder.folder / NAME)
    url, process = noted.get("url", ""), noted.get("process", "")
    is_here = process.startswith(f"{socket.gethostname()} ") and may_live(process)
    is_ours = is_own(state_folder.folder) and noted.get("database") == _digest(state_folder)
    return url if is_here and is_ours and ADDRESS.fullmatch(url) and _answers(url) else None


def _read(path: Path) -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        content = json.loads(read_text(path, 10_000))
        if isinstance(content, dict) and all(isinstance(value, str) for value in content.values()):
            return content
    return {}


def _digest(state_folder: StateFolder) -> str:
    """Tells databases apart, without the password that a database's URL may hold."""
    return hashlib.sha256(state_folder.tracking_uri.encode()).hexdigest()


def _answers(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy for local requests
    try:
        with direct.open(f"{url}/health", timeout=ANSWER_SECONDS) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False
