"""Options of the commands that do not train."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from studies.config.checks import PRUNERS, SAMPLERS

EXAMPLE = "metrics.`val/accuracy`"
RUN = "run id or a prefix of it, latest, best:STUDY, or STUDY/NUMBER for a trial"
MODEL = f"{RUN}; path of a checkpoint; or models:/NAME@champion"

REPLAYED = tuple(name for name in SAMPLERS if name not in ("grid", "gp"))  # a grid has its own points; gp needs torch

SHELLS = {  # shell -> how to set up its completion
    "bash": 'eval "$(harness completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(harness completion zsh)" in ~/.zshrc, after compinit',
    "fish": "harness completion fish > ~/.config/fish/completions/harness.fish",
}


def add_inspecting(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands.

    Args:
        command: adds one of a name, with its help.
    """
    describe = command("describe", "show an experiment's search space and all its parameters, with their docstrings")
    describe.add_argument("experiment", metavar="NAME", help="name of an experiment or path of a .yaml file")
    watch = command("watch", "show the live table of a study that another terminal drives, until it ends")
    watch.add_argument("study", metavar="STUDY", help="name of the study (`harness runs` shows them)")
    watch.add_argument("--storage", metavar="URL", help="Optuna's database (default: mlruns/optuna.db)")

    runs = command("runs", "list runs, newest first")
    runs.add_argument("--experiment", help="only runs of this experiment")
    runs.add_argument("--study", help="only runs of this study")
    runs.add_argument("--limit", type=int, default=50, help="maximum number of runs, at least 1 (default: 50)")

    which = f"only these, in MLflow's filter syntax: '{EXAMPLE} > 0.98 and params.seed = \"3\"'"
    runs.add_argument("--where", metavar="EXPR", default="", help=which)
    order = f"in this order, in the same syntax: '{EXAMPLE} DESC' (default: newest first)"
    runs.add_argument("--sort", metavar="EXPR", default="", help=order)
    shown = "metrics, parameters and tags to show instead of the best values and the parameters that differ"
    runs.add_argument("--columns", metavar="A,B", help=shown)

    compare = command("compare", "show runs side by side: the parameters that differ, and the metrics")
    compare.add_argument("runs", metavar="RUN", nargs="+", help=RUN)
    compare.add_argument("--csv", action="store_true", help="as CSV, with all digits")
    compare.add_argument(
        "--level",
        metavar="'METRIC>=VALUE'",
        help="also the epochs and seconds of training until a metric was at least, or with <= at most, a value",
    )

    diff = command(
        "diff", "show in what two runs differ: parameters, code, packages, data, and the samples on which they disagree"
    )
    diff.add_argument("run_a", metavar="A", help=RUN)
    diff.add_argument("run_b", metavar="B", help="likewise")
    diff.add_argument("--split", default="val", help="the samples of A's data to predict: val | test (default: val)")
    diff.add_argument("--output", metavar="PATH", help="the picture (default: ./diff-A-B.png)")

    report = command("report", "write one self-contained HTML page about a study, or about runs side by side")
    report.add_argument("names", metavar="STUDY|RUN", nargs="+", help=f"name of a study, or runs: {RUN}")
    report.add_argument("--output", metavar="FILE", help="file to write (default: ./report-NAME.html)")
    report.add_argument("--storage", metavar="URL", help="Optuna's database (default: mlruns/optuna.db)")

    predict = command(
        "predict",
        "predict for image files, words or the rows of CSV files with a trained model; exit status 1 if some inputs "
        "cannot be read, 2 if none can",
    )
    predict.add_argument("model", metavar="MODEL", help=MODEL)
    predict.add_argument("inputs", metavar="INPUT", nargs="*", help="files or words (default: one per line from stdin)")

    export = command("export", "export a trained model to a file for other programs, and verify the file")
    export.add_argument("model", metavar="MODEL", help=MODEL)
    export.add_argument(
        "--format", required=True, help="onnx | pt2 (torch.export) | safetensors (weights only, needs the source)"
    )
    export.add_argument("--output", metavar="PATH", help="file to write (default: ./EXPERIMENT-RUN.FORMAT)")

    demo = command("demo", "open a page to draw a digit or type a word on, with live predictions")
    demo.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help="as for predict (default: the best for drawings, the best for words; champions first)",
    )
    demo.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    demo.add_argument("--port", type=int, help="port (default: 8000, or a free one)")
    demo.add_argument("--no-open", action="store_true", help="only print the address")

    delete = command("delete", "delete runs of `train`, or studies with their trials; asks first")
    delete.add_argument(
        "names", metavar="RUN|STUDY", nargs="+", help="run ids or prefixes of them, or names of studies"
    )
    gc = command("gc", "delete for good what was deleted, here or in MLflow's UI; asks first")
    for sub in (delete, gc):
        sub.add_argument("--yes", action="store_true", help="do not ask")
        sub.add_argument("--storage", metavar="URL", help="Optuna's database (default: mlruns/optuna.db)")

    doctor = command("doctor", "check that databases, runs, trials, files and processes agree; exit status 1 if not")
    doctor.add_argument("--fix", action="store_true", help="repair what is found; no result is deleted")
    doctor.add_argument("--storage", metavar="URL", help="Optuna's database (default: mlruns/optuna.db)")

    lr = command("lr", "suggest a learning rate by a range test on a copy; no run is created")
    lr.add_argument("--low", type=float, default=1e-6, help="smallest learning rate, above 0 (default: 1e-6)")
    lr.add_argument("--high", type=float, default=1.0, help="largest learning rate (default: 1)")
    lr.add_argument("--steps", type=int, default=100, help="learning rates to try, at least 20 (default: 100)")
    lr.add_argument("--output", metavar="PATH", help="the picture (default: ./NAME-lr.png)")
    size = command("batch-size", "find the largest batch that fits in memory, on a copy; no run is created")
    size.add_argument(
        "--largest", type=int, default=8192, help="largest batch size to try, a power of two (default: 8192)"
    )
    time = command("forecast", "say how long a study will take and what it will cost; no run is created")
    time.add_argument("--trials", type=int, default=10, help="total number of trials, at least 1 (default: 10)")
    time.add_argument("--workers", type=int, default=1, help="trials to run at once, at least 1 (default: 1)")
    time.add_argument("--price", type=float, metavar="PER_HOUR", help="of this machine, in any currency")
    for sub in (lr, size, time):
        sub.add_argument("experiment", metavar="NAME", help="name of an experiment or path of a .yaml file")
        sub.add_argument("--seed", type=int, help="training seed (default: the file's)")
        sub.add_argument("--config", action="append", default=[], metavar="FILE", help="overrides values of NAME")
        sub.add_argument("--threads", type=int, help="CPU threads, at least 1 (default: all cores)")
        sub.set_defaults(executor=None)

    lab = command("prune-lab", "replay a study's recorded curves under each pruner and sampler: saved and lost")
    lab.add_argument("study", metavar="STUDY", help="name of the study, best one that was run with --pruner none")
    lab.add_argument("--pruners", metavar="A,B", help=f"only these (default: all: {', '.join(PRUNERS)})")
    lab.add_argument("--samplers", metavar="A,B", help=f"only these (default: all: {', '.join(REPLAYED)})")
    lab.add_argument("--seeds", type=int, default=10, help="searches with each sampler, at least 1 (default: 10)")
    lab.add_argument("--output", metavar="PATH", help="the picture (default: ./STUDY-prune-lab.png)")
    lab.add_argument("--storage", metavar="URL", help="Optuna's database (default: mlruns/optuna.db)")

    schema = command("schema", "print the JSON Schema of what a command answers with --json")
    schema.add_argument("of", metavar="COMMAND", nargs="?", help="a command (default: list those with a schema)")

    mcp = command("mcp", "serve these commands to agents, by the Model Context Protocol on stdin and stdout", False)
    mcp.add_argument(
        "--allow-training", action="store_true", help="agents may also start and stop training (default: only read)"
    )
    mcp.add_argument("--jobs", type=int, default=2, help="training jobs that may run at once, at least 1 (default: 2)")

    for sub in (diff, predict, export, demo):
        add_trust(sub)
    add_completion(command)

    ui = command("ui", "open MLflow on a prepared view of an experiment")
    ui.add_argument("experiment", metavar="NAME", nargs="?", help="the experiment to open (default: the newest)")
    ui.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)")
    ui.add_argument("--port", type=int, help="port (default: 5000, or a free one)")
    ui.add_argument("--no-open", action="store_true", help="only print the address")


def add_completion(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command; `command` adds one of a name, with its help."""
    completion = command("completion", "print a script that completes commands, names and parameters in a shell")
    setup = "; ".join(f"{shell}: {how}" for shell, how in SHELLS.items())
    completion.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"to set it up for each start of {setup}")


def add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust",
        action="store_true",
        help="trust this state folder from now on: run the code that it names (classes, folders, pickles)",
    )
