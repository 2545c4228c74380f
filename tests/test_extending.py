"""The examples of docs/extending.md, run as a reader would run them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text()
FILES = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "HARNESS_HOME": str(folder / "mlruns")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_page_has_an_example_of_each_kind() -> None:
    names = {"net.py", "mine.yaml", "drawn.py", "mysearch.py", "quiet.py", "jsontracker.py", "run_it.py"}
    assert set(FILES) == names
    assert len(COMMANDS) == 5


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_works(folder: Path, command: str) -> None:
    (folder / "quiet.py").write_text(FILES["quiet.py"].replace("first_hour = 6", "first_hour = 0"))
    _, *arguments = command.split()
    harness = str(Path(sys.executable).parent / "harness")
    answer = json.loads(run(folder, harness, *arguments, "--json"))
    assert answer["status"] == "finished"
    if "drawn.py" in command:
        artifacts = folder / "mlruns" / "trials" / answer["run_id"] / "artifacts"
        assert (artifacts / "pictures" / "predicted_against_true.png").exists()
    if "mysearch" in command:
        rates = [trial["params"]["model.learning_rate"] for trial in answer["trials"]]
        assert max(rates) <= (0.001 * 0.3) ** 0.5
        assert {trial["state"] for trial in answer["trials"]} <= {"COMPLETE", "PRUNED"}


def test_a_custom_tracker(folder: Path) -> None:
    assert run(folder, sys.executable, "run_it.py") == "finished\n"
    runs = [json.loads(path.read_text()) for path in (folder / "json").glob("*.json")]
    assert len(runs) == 3 and {run["status"] for run in runs} == {"FINISHED"}
    trials = [run for run in runs if run["tags"].get("harness.kind") == "trial"]
    assert len(trials) == 2 and all("val/loss" in run["metrics"] for run in trials)
    assert {run["tags"]["rank"] for run in trials} == {"1", "2"}
