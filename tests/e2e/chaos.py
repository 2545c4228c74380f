"""Chaos test: a study whose workers, warm server and driver are repeatedly killed (kill -9) at random moments.

make chaos                                     ten runs, two at a time
.venv/bin/python tests/e2e/chaos.py --seeds 7      one run, with seed 7

Each run has --trials short trials (30) on 2 workers, makes --kills kills (15), restarts the driver whenever it was
killed, and compares the result with an undisturbed run of the same study: same trials and parameters, bit-identical
values and metric series, no duplicates, no process or temporary file left. Three studies take turns: one of unknown
classes, whose trials have one process each (seeds 0, 3, 6 ...); one of the harness's own classes, whose trials reuse a
process (process_reuse.py; 1, 4, 7 ...); and the first with two DataLoader worker processes per trial (2, 5, 8 ...).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

TOY = Path(__file__).parents[1] / "toy"
HARNESS = str(Path(sys.executable).parent / "harness")
# Arguments of each study; its trials take about a second.
STUDIES = {
    "toy": [str(TOY / "toy.yaml"), "--model.seconds", "0.1", "--trainer.max_epochs", "6"],
    "tabular_classification": [
        *("tabular_classification", "--sampler", "random", "--pruner", "none", "--trainer.max_epochs", "80")
    ],
    "workers": [str(TOY / "workers.yaml"), "--model.seconds", "0.1", "--trainer.max_epochs", "6"],
}


def name_of(seed: int) -> str:
    """The study that is run with this seed."""
    return list(STUDIES)[seed % len(STUDIES)]


def start(home: Path, name: str, trials: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "HARNESS_HOME": str(home)}
    log = open(home.parent / "harness.log", "a")  # noqa: SIM115
    return subprocess.Popen(
        [HARNESS, "study", *STUDIES[name], "--workers", "2", "--json", "--trials", str(trials)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )


def family(driver: int) -> dict[str, list[psutil.Process]]:
    """The driver's processes: the warm server and the trials that it forked."""
    found: dict[str, list[psutil.Process]] = {"server": [], "worker": []}
    try:
        for child in psutil.Process(driver).children():
            if "forkserver" in " ".join(child.cmdline()):
                found["server"].append(child)
                found["worker"] += child.children()
    except psutil.NoSuchProcess:
        pass
    return found


def chaos(seed: int, home: Path, trials: int, kills: int) -> tuple[dict[str, Any], list[str]]:
    """Runs the study while killing its processes; returns its JSON answer and what was killed."""
    rng = random.Random(seed)
    killed: list[str] = []
    driver = start(home, name_of(seed), trials)
    while True:
        if len(killed) < kills:
            victim = rng.choices(["driver", "worker", "server"], [5, 9, 1])[0]
            until = time.monotonic() + rng.uniform(0.5, 4.0)
            while time.monotonic() < until or (victim != "driver" and not family(driver.pid)[victim]):
                if driver.poll() is not None:
                    break
                time.sleep(0.02)
            if driver.poll() is None:
                choices = [psutil.Process(driver.pid)] if victim == "driver" else family(driver.pid)[victim]
                if choices:
                    try:
                        rng.choice(choices).send_signal(signal.SIGKILL)
                        killed.append(victim)
                    except psutil.NoSuchProcess:
                        pass
            if victim == "driver":
                driver.wait()
        if len(killed) >= kills or driver.poll() is not None:
            output, _ = driver.communicate()
            if driver.returncode != -signal.SIGKILL:
                if driver.returncode != 0:
                    raise RuntimeError(f"harness ended with status {driver.returncode}: see {home.parent}/harness.log")
                return json.loads(output.splitlines()[-1]), killed
        if driver.poll() is not None:
            driver = start(home, name_of(seed), trials)


def series(home: Path, answer: dict[str, Any]) -> dict[int, dict[str, list[tuple[int, float]]]]:
    """Trial -> metric -> its points in MLflow.

    Each counts once: Lightning logs the epoch with a step's training values and with its validation values, and MLflow
    keeps one of two equal points if both are of the same millisecond.
    """
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{home}/mlflow.db")
    names = ("train/loss", "val/loss", "epoch", "test/loss")

    def points(run_id: str, name: str) -> list[tuple[int, float]]:
        return sorted({(point.step, point.value) for point in client.get_metric_history(run_id, name)})

    return {trial["number"]: {name: points(trial["run_id"], name) for name in names} for trial in answer["trials"]}


def leaderboard(answer: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(trial["number"], trial["state"], trial["value"], trial["params"]) for trial in answer["trials"]]


def complaints(name: str, home: Path, answer: dict[str, Any], calm_home: Path, calm: dict[str, Any]) -> list[str]:
    """Differences from the undisturbed run."""
    from mlflow import MlflowClient

    found = []
    trials = len(calm["trials"])
    if [trial["number"] for trial in answer["trials"]] != list(range(trials)):
        found.append("the trials are not exactly those of the undisturbed study")
    if leaderboard(answer) != leaderboard(calm):
        found.append("the leaderboard differs")
    if answer["test"] != calm["test"]:
        found.append("the champion's test differs")
    if series(home, answer) != series(calm_home, calm):
        found.append("a metric's series differs")
    client = MlflowClient(tracking_uri=f"sqlite:///{home}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name(name).experiment_id], max_results=1000)
    kinds = sorted(run.data.tags["harness.kind"] for run in runs)
    if kinds != ["study"] + ["trial"] * trials:
        found.append(f"MLflow has {kinds.count('study')} studies and {kinds.count('trial')} trials")
    for run in runs:
        if run.info.status != "FINISHED":
            error = run.data.tags.get("harness.error")
            found.append(f"{run.info.run_name} of MLflow is {run.info.status}: {error}")
    until = time.monotonic() + 15
    while (left := processes_of(home)) and time.monotonic() < until:
        time.sleep(0.5)
    if left:
        found.append(f"processes are left: {left}")
    doctor = subprocess.run(
        [HARNESS, "doctor", "--json"],
        env={**os.environ, "HARNESS_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    if doctor.returncode != 0:
        found.append(f"the doctor says {doctor.stdout}")
    return found


def processes_of(home: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HARNESS_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {' '.join(process.cmdline())[:80]}")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            pass
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(10)))
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--jobs", type=int, default=1, help="concurrent runs")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="harness-chaos-"))
    calm: dict[str, tuple[Path, dict[str, Any]]] = {}
    for name in sorted({name_of(seed) for seed in options.seeds}):
        print(f"{name} undisturbed ...", flush=True)
        home, began = folder / f"calm_{name}" / "mlruns", time.monotonic()
        home.parent.mkdir()
        output, _ = start(home, name, options.trials).communicate()
        calm[name] = home, json.loads(output.splitlines()[-1])
        if len(calm[name][1]["trials"]) != options.trials:
            raise SystemExit(f"undisturbed it has {len(calm[name][1]['trials'])} trials")
        print(f"  {options.trials} trials in {time.monotonic() - began:.0f} s", flush=True)

    def judged(seed: int) -> bool:
        home = folder / f"chaos{seed}" / "mlruns"
        home.parent.mkdir()
        began = time.monotonic()
        answer, killed = chaos(seed, home, options.trials, options.kills)
        found = complaints(name_of(seed), home, answer, *calm[name_of(seed)])
        counts = ", ".join(f"{killed.count(kind)} {kind}" for kind in ("driver", "worker", "server"))
        verdict = "clean" if not found else "; ".join(found)
        seconds = time.monotonic() - began
        print(
            f"seed {seed}, {name_of(seed)}: {len(killed)} kills ({counts}) in {seconds:.0f} s: {verdict}",
            flush=True,
        )
        if not found:
            shutil.rmtree(home.parent)
        return not found

    with ThreadPoolExecutor(options.jobs) as pool:
        clean = sum(pool.map(judged, options.seeds))
    print(f"{clean} of {len(options.seeds)} runs clean")
    if clean < len(options.seeds):
        raise SystemExit(f"their state is in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
