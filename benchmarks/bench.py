"""Compares the harness with common alternatives and prints the table of docs/benchmarks.md, row by row.

make bench                  every row
make bench ONLY=1           one row
make bench ONLY=3 PAIRS=2   two pairs instead of five

Each pair is interleaved (A B B A); figures are medians, the ratio is that of the medians, the spread is that of
the pairs. The harness is run by its installed command in a fresh state folder; the rivals are in benchmarks/rivals/.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from pairs import Comparison, compare

HARNESS = str(Path(sys.executable).parent / "harness")
RIVALS = Path(__file__).parent / "rivals"
PLAIN = ["--data.augment", "false", "--model.schedule", "constant"]  # so that a rival fits on a page
# Without a GPU, torch's optimizers (2.15, CUDA build) look for one at each step unless disabled. The harness disables
# this; so does a rival at its best.
BLIND = {} if torch.cuda.is_available() else {"CUDA_VISIBLE_DEVICES": ""}
TRIALS = 20
WARM = 100  # for row 8: a process's first trial takes twice as long as later ones
SHARED_METRICS = "key LIKE 'train/%' OR key LIKE 'val/%' OR key = 'epoch'"


Row = tuple[str, Comparison, str]  # workload, figures, notes


USED: list[Path] = []


@contextmanager
def fresh_folder() -> Iterator[Path]:
    """An empty folder, removed after the row, since after many deletions ext4 is slow to create files."""
    USED.append(Path(tempfile.mkdtemp(prefix="harness-bench-")))
    yield USED[-1]


def remove_used() -> None:
    while USED:
        shutil.rmtree(USED.pop())


def answer_of(command: list[str], folder: Path, **environment: str) -> dict[str, Any]:
    """Runs a command that prints JSON on its last line."""
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "HARNESS_HOME": str(folder), "MLFLOW_DISABLE_TELEMETRY": "true", **environment},
    )
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {result.returncode}\n{result.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return answer


def stored(folder: Path) -> int:
    """Number of rows in an MLflow database of metrics that both sides log."""
    with sqlite3.connect(folder / "mlflow.db") as database:
        return int(database.execute(f"SELECT count(*) FROM metrics WHERE {SHARED_METRICS}").fetchone()[0])


# -- rows -------------------------------------------------------------------------------------------------------

FITS: dict[str, tuple[list[str], list[str]]] = {
    "mlp, batch 64": (
        ["mnist_mlp", *PLAIN, "--data.batch_size", "64", "--trainer.max_epochs", "5"],
        ["mlp", "--batch-size", "64", "--epochs", "5"],
    ),
    "mlp, batch 512": (
        ["mnist_mlp", *PLAIN, "--data.batch_size", "512", "--trainer.max_epochs", "10"],
        ["mlp", "--batch-size", "512", "--epochs", "10"],
    ),
    "lenet5": (
        ["mnist_lenet5", *PLAIN, "--data.batch_size", "128", "--trainer.max_epochs", "3"],
        ["lenet5", "--batch-size", "128", "--epochs", "3"],
    ),
    "cnn": (
        ["mnist_cnn", *PLAIN, "--data.batch_size", "128", "--trainer.max_epochs", "3"],
        ["cnn", "--batch-size", "128", "--epochs", "3"],
    ),
    "gru": (
        ["reverse_gru", "--trainer.max_steps", "100", "--trainer.val_check_interval", "100"],
        ["gru", "--batch-size", "256", "--steps", "100"],
    ),
}


def fit_time(pairs: int) -> Iterator[Row]:
    """1: fit time of tracked `harness train` / the bare loop."""
    for name, (ours, rival) in FITS.items():
        values: set[float] = set()

        def fit(arguments: list[str] = ours, values: set[float] = values) -> float:
            with fresh_folder() as folder:
                answer = answer_of([HARNESS, "train", *arguments, "--no-test", "--json"], folder)
                values.add(round(answer["metrics"].get("val/accuracy", 0.0), 4))
                return float(answer["metrics"]["fit_seconds"])

        def bare(arguments: list[str] = rival, values: set[float] = values) -> float:
            with fresh_folder() as folder:
                answer = answer_of([sys.executable, str(RIVALS / "bare.py"), *arguments], folder, **BLIND)
                values.add(round(answer["value"], 4) if arguments[0] != "gru" else 0.0)
                return float(answer["seconds"])

        found = compare(fit, bare, pairs)
        same = "same validation accuracy on both sides" if len(values) == 1 else f"validation accuracies {values}"
        yield name, found, "s of fit" if name == "gru" else f"s of fit; {same}"


def stranger(pairs: int, name: str) -> Iterator[Row]:
    """15, 16: fit time of a third-party module under `harness train` / under `Trainer.fit` without any logger."""
    here = Path(__file__).parent
    values: set[float] = set()

    def ours() -> float:
        with fresh_folder() as folder:
            command = [HARNESS, "train", str(here / "stranger.yaml"), "--model.class_path", f"stranger.{name}"]
            answer = answer_of([*command, "--no-test", "--json"], folder)
            values.add(answer["metrics"]["val/loss"])
            return float(answer["metrics"]["fit_seconds"])

    def plain() -> float:
        with fresh_folder() as folder:
            answer = answer_of([sys.executable, str(here / "stranger.py"), name], folder)
            values.add(answer["value"])
            return float(answer["seconds"])

    found = compare(ours, plain, pairs)
    same = "the same validation loss to the bit" if len(values) == 1 else f"validation losses {values}"
    yield name, found, f"s of 1,500 steps; {same}"


# The jobs of rows 2 to 5 and 8, with the hyperparameters shared by all trials.
JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "mnist_mlp": ("mnist_mlp", {}),
    "layers of [128, 64], rate and batch size searched": (
        str(Path(__file__).parent / "rate_and_batch_size.yaml"),
        {"model.hidden_sizes": [128, 64], "model.dropout": 0.0},
    ),
}


def study(*extra: str, trials: int = TRIALS, workers: int = 2, job: str = "mnist_mlp") -> list[str]:
    """A study whose trials train for one epoch each."""
    how = ["--trials", str(trials), "--workers", str(workers), "--sampler", "random", "--pruner", "none", "--no-test"]
    return [HARNESS, "study", JOBS[job][0], *PLAIN, *how, "--trainer.max_epochs", "1", *extra, "--json"]


ONE_STEP = ["--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1"]


def window(folder: Path) -> float:
    """Seconds from the opening of the first trial's run to the end of the last one's, from MLflow."""
    with sqlite3.connect(folder / "mlflow.db") as database:
        trials = "SELECT run_uuid FROM tags WHERE key = 'harness.kind' AND value = 'trial'"
        times = f"SELECT min(start_time), max(end_time) FROM runs WHERE run_uuid IN ({trials})"
        first, last = database.execute(times).fetchone()
    return float(last - first) / 1000


def throughput(
    pairs: int,
    *form: str,
    script: str = "usual.py",
    trials: int = TRIALS,
    start: bool = False,
    extra: tuple[str, ...] = (),
) -> Iterator[Row]:
    """Time of trials with 2 workers, and of a rival, with the same hyperparameters.

    Args:
        form: options of the rival's script.
        start: include imports, database creation and everything else.
        extra: arguments that shorten the trials.
    """
    for job, (_, fixed) in JOBS.items():
        with fresh_folder() as folder:
            drawn = answer_of(study(*ONE_STEP, job=job, trials=trials), folder)["trials"]
            points = [{**fixed, **trial["params"]} for trial in drawn]
        counts: dict[str, set[int]] = {"ours": set(), "rival's": set()}

        def ours(job: str = job, counts: dict[str, set[int]] = counts) -> float:
            with fresh_folder() as folder:
                began = time.time()
                answer_of(study(*extra, job=job, trials=trials), folder)
                seconds = time.time() - began
                counts["ours"].add(stored(folder))
                return seconds if start else window(folder)

        def rival(points: list[dict[str, Any]] = points, counts: dict[str, set[int]] = counts) -> float:
            with fresh_folder() as folder:
                (folder / "points.json").write_text(json.dumps(points))
                command = [sys.executable, str(RIVALS / script), "points.json", "--folder", str(folder), *form]
                began = time.time()
                answer = answer_of(command, folder, **BLIND)
                seconds = time.time() - began
                counts["rival's"].add(stored(folder))
                return seconds if start else float(answer["seconds"])

        found = compare(ours, rival, pairs)
        same = "equal" if counts["ours"] == counts["rival's"] else "not equal"
        stored_rows = ", ".join(f"{side} {sorted(number)}" for side, number in counts.items())
        notes = f"trials per hour; metric rows stored: {stored_rows}, {same}"
        yield f"{trials} trials of {job}", found.turned(3600 * trials), notes


def two_workers(pairs: int) -> Iterator[Row]:
    """10: 2 workers of one thread each / 1 worker of one thread."""

    def measured(workers: int) -> Callable[[], float]:
        def run() -> float:
            with fresh_folder() as folder:
                answer_of(study("--threads", "1", workers=workers), folder)
                return window(folder)

        return run

    found = compare(measured(2), measured(1), pairs)
    yield "20 trials of mnist_mlp", found.turned(3600 * TRIALS), "trials per hour; ours: 2 workers, rival's: 1"


PACKED, PACKED_ON_GPU, ALONE_ON_GPU = 16, 64, 12
OF_ONE_SHAPE = ["--data.batch_size", "64", "--model.dropout", "0", "--trainer.max_epochs", "5"]


def packing(pairs: int, count: int = PACKED, alone: int = PACKED) -> Iterator[Row]:
    """13 and 14: trials packed in one process / sequential trials; 5 epochs each, searching the learning rate.

    Args:
        count: number of packed trials.
        alone: number of sequential trials.
    """
    for sizes in ("[32]", "[128, 64]"):
        together: set[int] = set()

        def measured(pack: int, trials: int, sizes: str = sizes, together: set[int] = together) -> Callable[[], float]:
            def run() -> float:
                with fresh_folder() as folder:
                    options = [*OF_ONE_SHAPE, "--model.hidden_sizes", sizes, "--pack", str(pack)]
                    answer_of(study(*options, trials=trials, workers=1), folder)
                    logs = [log.read_text() for log in folder.glob("trials/*/artifacts/log.txt")]
                    if pack > 1:
                        together.add(sum("steps were taken together" in log for log in logs))
                    return window(folder) / trials

            return run

        found = compare(measured(count, count), measured(1, alone), pairs)
        notes = f"trials per hour; of {count} trials {sorted(together)} took steps together; {alone} one by one"
        yield f"mnist_mlp, layers of {sizes}, batch 64", found.turned(3600), notes


def memory(pairs: int) -> Iterator[Row]:
    """11: memory (PSS) added by one more concurrent mlp trial / of a process of tuned."""

    def of_family(command: list[str], folder: Path, trials: int) -> float:
        """Megabytes of a command and its children while `trials` trials train."""
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "HARNESS_HOME": str(folder), **(BLIND if trials == 0 else {})},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while process.poll() is None:
                time.sleep(0.5)
                logs = [log.read_text() for log in folder.glob("trials/*/events.jsonl")]
                if trials and sum('"val/loss"' in log for log in logs) >= trials:
                    break
                if not trials and (folder / "mlflow.db").exists() and stored(folder) > 20:
                    break
            else:
                raise SystemExit(f"{' '.join(command)} ended before it was measured")
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            return sum(member.memory_full_info().pss for member in family) / 1e6
        finally:
            process.terminate()
            process.wait()

    def ours() -> float:
        used = []
        for workers in (1, 2):
            with fresh_folder() as folder:
                endless = study("--trainer.max_epochs", "1000", trials=workers, workers=workers)
                used.append(of_family(endless, folder, workers))
        return used[1] - used[0]

    def rival() -> float:
        with fresh_folder() as folder:
            point = {"model.learning_rate": 1e-3, "data.batch_size": 128, "model.hidden_sizes": [256, 128]}
            (folder / "points.json").write_text(json.dumps([{**point, "model.dropout": 0.1}]))
            command = [sys.executable, str(RIVALS / "usual.py"), "points.json", "--tuned", "--epochs", "1000"]
            return of_family([*command, "--folder", str(folder)], folder, 0)

    yield "mnist_mlp", compare(ours, rival, pairs), "MB"


GOAL, SEEDS, EPOCHS = 99.0, 10, 3  # percent of test images correct, mean over seeds; maximum epochs for the rival


def speedrun(pairs: int) -> Iterator[Row]:
    """6: time of fit to a mean of 99.0% of MNIST's test images over 10 seeds / pytorch/examples to the same mean.

    Ours trains for a fixed number of epochs. The rival uses the fewest epochs whose mean reaches the goal, or EPOCHS,
    for which it may use the test set; we don't.
    """
    seeds = max(pairs, SEEDS)
    ours, rival, right = [], [], []
    for seed in range(seeds):
        with fresh_folder() as folder:
            answer = answer_of([HARNESS, "train", "mnist_speedrun", "--seed", str(seed), "--json"], folder)
            ours.append(float(answer["metrics"]["fit_seconds"]))
            right.append(100 * float(answer["metrics"]["test/accuracy"]))
        command = [sys.executable, str(RIVALS / "pytorch_examples.py"), "--epochs", str(EPOCHS), "--seed", str(seed)]
        result = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **BLIND})
        rival.append([json.loads(line) for line in result.stdout.splitlines()])
        print(f"  seed {seed}: {ours[-1]:.1f} s {right[-1]:.2f}%; rival {rival[-1]}", file=sys.stderr, flush=True)
    means = [statistics.mean(run[epoch]["accuracy"] for run in rival) for epoch in range(EPOCHS)]
    epoch = next((epoch for epoch, mean in enumerate(means) if mean >= GOAL), EPOCHS - 1)
    found = Comparison(ours, [run[epoch]["seconds"] for run in rival])
    mean, spread = statistics.mean(right), statistics.stdev(right)
    notes = f"s of fit; ours {mean:.2f} ± {spread:.2f}% over {seeds} seeds, rival's {means[epoch]:.2f}%"
    notes += f" in {epoch + 1} epochs"
    yield "mnist_speedrun", found, notes


def one_metric(pairs: int) -> Iterator[Row]:
    """7: cost of one metric on the training thread / MlflowClient.log_metric on SQLite."""
    script = Path(__file__).parent / "one_metric.py"

    def measured(side: str) -> Callable[[], float]:
        def run() -> float:
            with fresh_folder() as folder:
                return float(answer_of([sys.executable, str(script), side], folder)["microseconds"])

        return run

    yield "one metric", compare(measured("ours"), measured("rival"), pairs), "µs"


def scale(pairs: int) -> Iterator[Row]:
    """9: the driver's own work for a study's 10,000th trial / its 100th; one study of about 15 minutes."""
    script = Path(__file__).parent / "scale.py"
    with fresh_folder() as folder:
        command = [sys.executable, str(script), "--one", "--trials", "10000", "--workers", "1"]
        answer = answer_of(command, folder)
    last, hundredth = answer["ms of a trial, the last"], answer["ms of a trial, around the 100th"]
    yield "10,000 simulated trials, TPE", Comparison([last], [hundredth]), "ms"


def first_step(pairs: int) -> Iterator[Row]:
    """12: from typing `harness train mnist_mlp` to the first optimizer step / importing pytorch_lightning alone."""

    def ours() -> float:
        with fresh_folder() as folder:
            began = time.time()
            limits = ["--trainer.limit_train_batches", "1", "--trainer.max_epochs", "1"]
            limits += ["--trainer.log_every_n_steps", "1", "--no-test", "--json"]
            answer_of([HARNESS, "train", "mnist_mlp", *limits], folder)
            (log,) = folder.glob("trials/*/events.jsonl")
            for line in log.read_text().splitlines():
                event = json.loads(line)
                if "train/loss" in event.get("values", {}):
                    return float(event["time"]) - began
            raise SystemExit(f"no training step in {log}")

    def rival() -> float:
        began = time.time()
        subprocess.run([sys.executable, "-c", "import pytorch_lightning"], check=True)
        return time.time() - began

    yield "first step", compare(ours, rival, pairs), "s"


SEARCH_TRIALS, SEARCH_EPOCHS = 20, 4  # of row 17
NEAR = 0.999  # of the best validation accuracy that any of the searches found


def time_to_best(pairs: int) -> Iterator[Row]:
    """17: time from typing until a study's best is within 0.1% of the best known / Optuna with Lightning, Ray Tune.

    The same space, trials and epochs for all: mnist_mlp, TPE and successive halving. The best known is the best that
    any of the searches found, with any seed. A search that does not come near it counts with its whole time.
    """
    ours: list[list[list[float]]] = []
    rivals: dict[str, list[list[list[float]]]] = {"Optuna and Lightning": [], "the same, tuned": [], "Ray Tune": []}
    forms = dict(zip(rivals, (["optuna"], ["optuna", "--tuned"], ["ray"]), strict=True))
    size = ["--trials", str(SEARCH_TRIALS)]
    for seed in range(pairs):
        with fresh_folder() as folder:
            how = ["--sampler", "tpe", "--pruner", "asha", "--workers", "2", "--no-test", "--json"]
            limits = ["--trainer.max_epochs", str(SEARCH_EPOCHS), "--seed", str(seed)]
            began = time.time()
            answer = answer_of([HARNESS, "study", "mnist_mlp", *PLAIN, *size, *how, *limits], folder)
            ours.append(sorted(whole_trials(folder, answer["trials"], began)))
            print(f"  seed {seed} ours {ours[-1]}", file=sys.stderr, flush=True)
        for name, form in forms.items():
            script = [sys.executable, str(RIVALS / "pruned_search.py"), *form, *size]
            command = [*script, "--epochs", str(SEARCH_EPOCHS), "--seed", str(seed)]
            result = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **BLIND})
            rivals[name].append(json.loads(result.stdout.splitlines()[-1]))
            print(f"  seed {seed} {name} {rivals[name][-1]}", file=sys.stderr, flush=True)
    everything = [*ours, *(run for runs in rivals.values() for run in runs)]
    known = max(value for run in everything for _, value in run)

    def reached(run: list[list[float]]) -> float:
        return next((moment for moment, value in run if value >= NEAR * known), run[-1][0])

    for name, runs in rivals.items():
        near = [sum(any(value >= NEAR * known for _, value in run) for run in side) for side in (ours, runs)]
        notes = f"s; best known {known:.4f}, came near it: ours {near[0]}, rival's {near[1]} of {pairs} seeds"
        yield f"mnist_mlp / {name}", Comparison([*map(reached, ours)], [*map(reached, runs)]), notes


def whole_trials(folder: Path, trials: list[dict[str, Any]], began: float) -> Iterator[list[float]]:
    """Seconds from `began` to the end of each trial that was not pruned, and its value."""
    for trial in trials:
        if trial["state"] == "COMPLETE":
            lines = (folder / "trials" / trial["run_id"] / "events.jsonl").read_text().splitlines()
            (end,) = [event["time"] for event in map(json.loads, lines) if event["kind"] == "finished"]
            yield [end - began, trial["value"]]


def regret(pairs: int) -> Iterator[Row]:
    """18: mean regret after 50 trials on recorded curves / random search's and Hyperband's; see regret.py."""
    from regret import measure, recorded

    seeds = max(20, pairs)
    for study, path in recorded().items():
        found = measure(path, seeds)
        ours = found.pop("ours")
        for name, its in found.items():
            notes = f"share of best to median, {seeds} seeds; validations {statistics.mean(ours.reports):.0f} / "
            notes += f"{statistics.mean(its.reports):.0f}"
            means = [max(statistics.mean(one.regret), 1e-9) for one in (ours, its)]
            yield f"{study} / {name}", Comparison([means[0]], [means[1]]), notes


ROWS: dict[int, tuple[str, Callable[[int], Iterator[Row]]]] = {
    1: ("fit time of tracked `harness train` / bare", fit_time),
    2: ("trials per hour / usual, start-up left out", throughput),
    3: ("trials per hour / tuned, start-up left out", lambda pairs: throughput(pairs, "--tuned")),
    4: ("the same, start-up and databases included / tuned", lambda pairs: throughput(pairs, "--tuned", start=True)),
    5: ("trials per hour / Ray Tune, start-up left out", lambda pairs: throughput(pairs, script="ray_tune.py")),
    6: ("time of fit to 99.0% of MNIST's test images / pytorch/examples", speedrun),
    7: ("cost of one metric on the training thread / MlflowClient.log_metric", one_metric),
    8: (
        "trials of one step per hour / tuned",
        lambda pairs: throughput(pairs, "--tuned", "--steps", "1", trials=WARM, extra=tuple(ONE_STEP)),
    ),
    9: ("driver's own work for a study's 10,000th trial / its 100th", scale),
    10: ("2 workers of one thread each / 1 worker of one thread", two_workers),
    11: ("memory added by one more concurrent mlp trial / a process of tuned", memory),
    12: ("typing `harness train mnist_mlp` to first step / importing pytorch_lightning", first_step),
    13: ("trials packed in one process / one after the other", packing),
    14: ("the same on one GPU, 64 trials", lambda pairs: packing(pairs, PACKED_ON_GPU, ALONE_ON_GPU)),
    15: ("fit time of a stranger's module / Trainer.fit, no logger", lambda pairs: stranger(pairs, "Stranger")),
    16: ("the same, with torchmetrics", lambda pairs: stranger(pairs, "WithTorchmetrics")),
    17: ("time until a study's best is within 0.1% of the best known / Optuna, Ray Tune", time_to_best),
    18: ("regret after 50 trials on recorded curves / random search, Hyperband", regret),
}


ON_GPU = 14


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, nargs="*", choices=list(ROWS), help="rows to measure (default: all)")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=RIVALS)
    print(f"{platform.machine()}, {os.cpu_count()} cores; commit {commit.stdout.strip()}; {options.pairs} pairs\n")
    print("| # | what, ours / rival's | on | ratio of medians | spread of pairs | ours | rival's | unit, notes |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for number in options.only or ROWS:
        title, row = ROWS[number]
        if number == ON_GPU and not torch.cuda.is_available():
            print(f"| {number} | {title} | no GPU here |", flush=True)
            continue
        for name, found, notes in row(options.pairs):
            remove_used()
            low, high = found.spread
            ours, rival = statistics.median(found.ours), statistics.median(found.rival)
            cells = [str(number), title, name, f"{found.ratio:.4g}", f"{low:.4g} to {high:.4g}"]
            print(f"| {' | '.join([*cells, f'{ours:.4g}', f'{rival:.4g}', notes])} |", flush=True)


if __name__ == "__main__":
    atexit.register(remove_used)
    main()
