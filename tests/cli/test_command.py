"""The command in unusual environments: closed pipes, ASCII, no home folder, warnings as errors, Ctrl-C."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from studies.common.strict_json import json_line
from studies.tracking.database import template

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "studies.cli.main"]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


def harness(*argv: str, shell: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command, or a shell line in which it is "$@"."""
    command = [*COMMAND, *argv]
    if shell is not None:
        command = ["bash", "-o", "pipefail", "-c", shell, "bash", *command]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment})


@pytest.mark.parametrize("argv", [["list"], ["list", "--json"], ["train", "absent"]])
def test_a_pipe_that_closes_early(argv: list[str]) -> None:
    ended = harness(*argv, shell='{ sleep 0.5; "$@" 2>&1; } | true')
    assert ended.returncode == 141 and ended.stderr == ""


@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_a_full_disk(json_too: list[str]) -> None:
    ended = harness("list", *json_too, shell='"$@" >/dev/full')
    assert ended.returncode == 1 and ended.stderr.splitlines() == [
        "harness: OSError: [Errno 28] No space left on device"
    ]


@pytest.mark.parametrize("shell", ['"$@" >&-', '"$@" 2>&-', '"$@" >&- 2>&-'])
def test_closed_streams(shell: str) -> None:
    assert harness("list", shell=shell).returncode == 0


def test_ascii(tmp_path: Path) -> None:
    ended = harness("train", "nö", **ASCII)
    assert ended.returncode == 2 and ended.stderr.startswith("harness: unknown experiment n\\udc")
    ended = harness("runs", HARNESS_HOME=str(tmp_path / "ü"), **ASCII)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr


def test_warnings_as_errors() -> None:
    code = "import sys; sys.argv[1:] = ['list']; from studies.cli.main import main; main(); import pkgutil, warnings; "
    code += "warnings.warn('old', DeprecationWarning); warnings.warn('odd')"
    ended = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0 and "odd" in ended.stderr and "old" not in ended.stderr


def test_interrupted_during_imports(tmp_path: Path) -> None:
    (tmp_path / "yaml.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n")
    ended = harness("list", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert ended.returncode == 130 and "Traceback" not in ended.stderr


def test_no_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("HARNESS_DATA", raising=False)
    monkeypatch.setattr(Path, "home", fail)
    assert template() is None


def test_json_is_strict() -> None:
    answer = {"a": [math.inf, -math.inf, math.nan, 1.5], "b": {"c": (math.nan,)}, 3: Path("x")}
    line = json_line(answer)
    assert json.loads(line) == {"a": [None, None, None, 1.5], "b": {"c": [None]}, "3": "x"}
    assert "NaN" not in line and "Infinity" not in line
