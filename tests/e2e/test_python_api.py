"""`import studies` in scripts whose classes are in the script itself, without a __main__ guard."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from process_helpers import Workspace

pytestmark = pytest.mark.slow
FOLDER = Path(__file__).parents[1] / "toy"
TOY = f"import sys\nsys.path.append({str(FOLDER)!r})\n" + (FOLDER / "toy.py").read_text().partition('"""\n')[2].replace(
    "from __future__ import annotations\n", ""
)
EXPERIMENT = """
from functools import partial
import studies
toy = studies.Experiment(
    "mine",
    model=partial(Toy, learning_rate=studies.Range(1e-3, 0.5, log=True)),
    data=partial(ToyData, batch_size=studies.Choice([4, 8, 16])),
    trainer={"max_epochs": 3, "log_every_n_steps": 2},
    metric="val/loss", direction="minimize", sampler="random",
)
"""


class Script:
    """A running script that defines the toy's classes and the experiment `toy`."""

    def __init__(self, workspace: Workspace, code: str) -> None:
        path = workspace.folder / "script.py"
        path.write_text(TOY + EXPERIMENT + code)
        self.process = subprocess.Popen(
            [sys.executable, str(path)],
            cwd=workspace.folder,
            env=workspace.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=300)
        return self.process.returncode, out, err


def answer(workspace: Workspace, code: str) -> Any:
    status, out, err = Script(workspace, code).wait()
    assert status == 0, err
    return json.loads(out.splitlines()[-1])


def test_a_study_of_a_scripts_classes_equals_that_of_a_file(tmp_path: Path) -> None:
    for name in ("script", "file"):
        (tmp_path / name).mkdir()
    ours, theirs = Workspace(tmp_path / "script"), Workspace(tmp_path / "file")
    said = answer(
        ours,
        """
import json
result = studies.study(toy, trials=3, workers=2)
again = studies.train(from_run="mine/1")
module, best = studies.load("best:mine"), studies.runs(study="mine", sort="metrics.`best/val/loss`").index[0]
assert isinstance(module, Toy) and not module.training and Toy.__module__ == "__main__"
table = studies.compare("mine/1", again.run_id)
page = studies.report("mine")
assert "<iframe" in page._repr_html_() and page.path.read_text().startswith("<!doctype html>"), page
print(json.dumps({
    "trials": result.rows, "best": result.best, "weights": module.linear.weight.tolist(),
    "frame": result.trials["value"].tolist(), "columns": list(result.trials), "again": again.metrics["best/val/loss"],
    "same": [str(run_id) == result.best["run_id"] for run_id in [best]],
    "compared": table.loc["metrics.best/val/loss"].nunique(),
}))
""",
    )
    for name in ("toy.py", "children.py"):
        shutil.copy(FOLDER / name, theirs.folder)
    written = (ours.folder / "mlruns").glob("objects/mine/*/mine.yaml")
    (theirs.folder / "mine.yaml").write_text(next(written).read_text().replace("mine_objects.", "toy."))
    status, expected, err = theirs.run("study", "mine.yaml", "--trials", "3", "--workers", "2")
    assert status == 0, err
    for one, other in zip(said["trials"], expected["trials"], strict=True):
        assert {**one, "run_id": ""} == {**other, "run_id": ""}
    names = ("val/loss", "train/loss")
    assert ours.curves(said["trials"], *names) == theirs.curves(expected["trials"], *names)
    assert said["frame"] == [row["value"] for row in expected["trials"]]
    assert said["columns"] == ["state", "value", "run_id", "model.learning_rate", "data.batch_size"]
    assert said["again"] == said["trials"][1]["value"] and said["same"] == [True] and said["compared"] == 1
    status, _, err = ours.run("train", "--from", "mine/1", "--trainer.max_epochs", "4")
    assert status == 0, f"the command line finds the script's classes, too: {err}"

    shutil.copytree(ours.home, tmp_path / "copied" / "mlruns")
    for pickled in (tmp_path / "copied").glob("mlruns/objects/*/*/*.pkl"):
        pickled.write_bytes(f"cos\nsystem\n(S'touch {tmp_path}/executed'\ntR.".encode())
    for command in (["predict", said["best"]["run_id"], "1"], ["train", "--from", said["best"]["run_id"]]):
        status, refused, _ = Workspace(tmp_path / "copied").run(*command)
        assert status == 2 and "--trust" in refused["error"], refused
    assert not (tmp_path / "executed").exists(), "a pickle from elsewhere was read"


def test_what_the_command_refuses_is_a_value_error_and_creates_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    refused = answer(
        workspace,
        """
import json
refused = []
for call in (
    lambda: studies.study("mnist_mpl"),
    lambda: studies.train(toy, overrides={"model.learning_rat": 0.1}),
    lambda: studies.train(toy, seed=-1),
    lambda: studies.study(toy, trials=0),
    lambda: studies.runs(),
    lambda: studies.train(3),
):
    try:
        call()
    except ValueError as error:
        refused.append(str(error))
print(json.dumps(refused))
""",
    )
    unknown, parameter, seed, trials, none, kind = refused
    assert unknown == "unknown experiment mnist_mpl; did you mean mnist_mlp? (allowed: " + unknown.partition(": ")[2]
    assert parameter.startswith("unknown parameter model.learning_rat; did you mean model.learning_rate?")
    assert "seed=-1" in seed and "trials=0" in trials and none.startswith("no runs yet in")
    assert kind.startswith("experiment must be a name, the path of a .yaml file or a studies.Experiment")
    assert not (workspace.home / "mlflow.db").exists() and not (workspace.home / "trials").exists()


def harness_processes(workspace: Workspace) -> list[psutil.Process]:
    return [process for process in workspace.processes() if "called_command" in " ".join(process.cmdline())]


def wait_for_events(workspace: Workspace) -> None:
    until = time.monotonic() + 120
    while not workspace.events("metrics"):
        assert time.monotonic() < until
        time.sleep(0.1)


LONG = 'studies.train(toy, overrides={"trainer.max_epochs": 100000})\n'


def test_an_interrupt_of_the_script_alone_ends_the_run_in_order_and_it_can_be_resumed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    script = Script(workspace, f"try:\n    {LONG}except KeyboardInterrupt:\n    print('stopped')\n")
    wait_for_events(workspace)
    (command,) = harness_processes(workspace)
    assert "max_epochs" not in " ".join(command.cmdline()), "process lists show arguments"
    script.process.send_signal(signal.SIGINT)
    status, out, err = script.wait()
    assert status == 0 and out.splitlines()[-1] == "stopped", err
    assert workspace.processes() == []
    said = answer(
        workspace,
        """
import json
table = studies.runs()
status, epochs = table["status"].tolist(), int(table["metrics.epoch"].iloc[0]) + 5
try:
    studies.resume("latest", overrides={"trainer.max_epochs": 1})
except studies.WorkFailed as error:
    assert "current_epoch" in str(error)
resumed = studies.resume("latest", overrides={"trainer.max_epochs": epochs})
print(json.dumps([status, resumed.status, studies.runs()["status"].tolist()]))
""",
    )
    assert said == [["killed"], "finished", ["finished"]]


def test_a_killed_script_takes_its_command_with_it(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    script = Script(workspace, LONG)
    wait_for_events(workspace)
    (command,) = harness_processes(workspace)
    script.process.kill()
    command.wait(timeout=60)
    script.wait()
    assert [event["why"] for event in workspace.events("stopped")] == ["interrupted"]
    assert workspace.is_sound("--fix") or workspace.is_sound()


FUNCTION = """
import random, time
import studies
def search(trial, x, slow=0.0):
    for step in range(5):
        time.sleep(slow)
        trial.log(distance=abs(x - 2) + (4 - step) / 10)
    (trial.artifacts / "x.txt").write_text(str(x))
space = {"x": studies.Range(-5.0, 5.0), "slow": studies.Choice([0.0])}
f = studies.Experiment("f", function=search, space=space, metric="distance", direction="minimize", pruner="median")
"""


def test_a_study_of_a_plain_function_is_interrupted_and_goes_on(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    path = tmp_path / "script.py"
    path.write_text(FUNCTION.replace("Choice([0.0])", "Choice([0.3])") + "studies.study(f, trials=6, workers=2)")
    script = subprocess.Popen([sys.executable, str(path)], env=workspace.environment, stderr=subprocess.PIPE, text=True)
    wait_for_events(workspace)
    script.send_signal(signal.SIGINT)
    _, err = script.communicate(timeout=120)
    assert script.returncode != 0 and "KeyboardInterrupt" in err
    status, trained, err = workspace.run("study", *map(str, workspace.home.glob("objects/f/*/f.yaml")), "--trials", "6")
    assert status == 0, err
    for trial in trained["trials"]:
        x = trial["params"]["function.x"]
        (curve,) = workspace.curves([trial], "distance")
        assert curve == [(step, pytest.approx(abs(x - 2) + (4 - step) / 10)) for step in range(len(curve))]
        assert trial["value"] == min(value for _, value in curve)
        if trial["state"] == "COMPLETE":
            assert len(curve) == 5
            assert (workspace.home / "trials" / trial["run_id"] / "artifacts" / "x.txt").read_text() == str(x)
    assert trained["best"]["value"] == min(trial["value"] for trial in trained["trials"])
    assert workspace.is_sound()
    status, refused, _ = workspace.run("extend", "f", "--epochs", "1")
    assert status == 2 and "its trials cannot be extended" in refused["error"]
    status, refused, _ = workspace.run("predict", "best:f", "3")
    assert status == 2 and "has no trained model" in refused["error"]
    status, again, err = workspace.run("train", "--from", "f/0")
    assert status == 0, err
    assert again["metrics"]["distance"] == pytest.approx(abs(trained["trials"][0]["params"]["function.x"] - 2))
