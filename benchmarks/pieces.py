"""Compares hand-written pieces with their library equivalents: the numbers in docs/benchmarks.md.

.venv/bin/python benchmarks/pieces.py             all of them, about two minutes
.venv/bin/python benchmarks/pieces.py dropout step

Each pair is interleaved (A B B A) and on one thread; figures are medians.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import torch
from pairs import Comparison, compare
from torch import nn

from lightning_modules import CNN, MLP
from lightning_modules.dropout import Dropout

Found = tuple[str, str, Comparison]  # what, unit, figures


def per_call(work: Callable[[], Any], calls: int) -> Callable[[], float]:
    """Measures a call, in microseconds."""

    def measured() -> float:
        began = time.perf_counter()
        for _ in range(calls):
            work()
        return (time.perf_counter() - began) / calls * 1e6

    for _ in range(calls // 10 + 1):
        work()
    return measured


def dropout(pairs: int) -> Found:
    """lightning_modules.Dropout / nn.Dropout: forward and backward, a share of 0.2."""
    inputs, along = torch.randn(128, 256, requires_grad=True), torch.ones(128, 256)

    def through(layer: nn.Module) -> Callable[[], None]:
        return lambda: layer(inputs).backward(along)

    found = compare(per_call(through(Dropout(0.2)), 300), per_call(through(nn.Dropout(0.2)), 300), pairs)
    return "dropout of 128 x 256 units, forward and backward", "µs", found


def step(pairs: int) -> Found:
    """optimizer_step / PyTorch's zero_grad, backward and step: the whole step of a small MLP with Adam."""
    from studies.acceleration.training.optimizer_step import backward, stepper

    images, labels = torch.randn(64, 1, 28, 28), torch.randint(0, 10, (64,))

    def training(fast: bool) -> Callable[[], None]:
        model = MLP(hidden_sizes=[128, 64]).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        take_step = stepper(optimizer)

        def ours() -> None:
            loss, _ = model.loss_and_outputs((images, labels))
            for parameter in optimizer.param_groups[0]["params"]:
                parameter.grad = None
            backward(loss)
            take_step()

        def rival() -> None:
            loss, _ = model.loss_and_outputs((images, labels))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return ours if fast else rival

    found = compare(per_call(training(True), 300), per_call(training(False), 300), pairs)
    return "a step of an MLP of 128 and 64 units, batch 64", "µs", found


def replay(pairs: int) -> Found:
    """replay / autograd: the gradients of an MLP with dropout, with outputs for the metrics."""
    from studies.acceleration.training.optimizer_step import backward
    from studies.acceleration.training.replay import ReplayedModule

    images, labels = torch.randn(64, 1, 28, 28), torch.randint(0, 10, (64,))

    def made() -> MLP:
        return MLP(hidden_sizes=[128, 128, 128], dropout=0.3).train()

    ours, model = ReplayedModule(made()), made()

    def rival() -> None:
        for parameter in model.parameters():
            parameter.grad = None
        loss, outputs = model.loss_and_outputs((images, labels))
        model.add_training(*outputs)
        backward(loss)

    found = compare(per_call(lambda: ours((images, labels)), 300), per_call(rival, 300), pairs)
    assert not ours.replay.is_over, "it was not replayed"
    return "gradients of an MLP of 3 x 128 units with dropout, batch 64", "µs", found


def packed_replay(pairs: int) -> Found:
    """stacked_steps with its gradients replayed / by torch.func.vmap: a step of 16 MLPs, optimizers included."""
    from studies.acceleration.packing.stacked_module import Stack
    from studies.acceleration.packing.stacked_steps import StackedSteps

    batch = torch.randn(16, 64, 1, 28, 28), torch.randint(0, 10, (16, 64))

    def packed(replays: bool) -> StackedSteps:
        models: list[Any] = [MLP(hidden_sizes=[32]).train() for _ in range(16)]
        optimizers = [torch.optim.Adam(model.parameters(), lr=1e-3, fused=True) for model in models]
        for model, optimizer in zip(models, optimizers, strict=True):
            model.loss_and_outputs((batch[0][0], batch[1][0]))[0].backward()
            optimizer.step()
        steps = StackedSteps(Stack(models), optimizers)
        if not replays:
            steps._replay = None
        steps.begin()
        return steps

    ours, rival = packed(True), packed(False)
    found = compare(per_call(lambda: ours.take(batch), 50), per_call(lambda: rival.take(batch), 50), pairs)
    assert ours._replay is not None and not ours._replay.is_over, "it was not replayed"
    return "a step of 16 packed MLPs of 32 units, batch 64", "µs", found


def storage(pairs: int) -> Found:
    """studies.search / Optuna's own storage: ask, four parameters, one report and tell, in SQLite."""
    return against_optuna(pairs, lambda folder: f"sqlite:///{folder}/rival.db")


def journal(pairs: int) -> Found:
    """studies.search in SQLite / Optuna's JournalStorage: ask, four parameters, one report and tell."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return against_optuna(pairs, lambda folder: JournalStorage(JournalFileBackend(f"{folder}/rival.log")))


def against_optuna(pairs: int, storage: Callable[[str], Any]) -> Found:
    import optuna

    from studies.acceleration import for_search
    from studies.config.search_space import parse_space
    from studies.search import Search

    written: dict[str, Any] = {"model.rate": {"low": 1e-4, "high": 0.1, "log": True}, "data.batch_size": [64, 128]}
    written |= {"model.sizes": [[128], [256, 128]], "model.dropout": {"low": 0.0, "high": 0.4}}
    folder = tempfile.TemporaryDirectory()
    definition = {"space": written, "metric": "m", "direction": "maximize", "seed": 0}
    search = Search(
        f"sqlite:///{folder.name}/ours.db", "s", definition, parse_space(written), "random", "median", 1, **for_search()
    )
    study = optuna.create_study(
        storage=storage(folder.name),
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
        direction="maximize",
    )

    def ours() -> None:
        row = search.ask()
        search.bind(row.number, "run")
        search.report(row.number, 1, 0.5)
        search.tell(row.number, "COMPLETE", 0.5)

    def rival() -> None:
        trial = study.ask()
        trial.suggest_float("model.rate", 1e-4, 0.1, log=True)
        trial.suggest_categorical("data.batch_size", [64, 128])
        trial.suggest_categorical("model.sizes", ["[128]", "[256, 128]"])
        trial.suggest_float("model.dropout", 0.0, 0.4)
        trial.set_user_attr("harness.run_id", "run")
        trial.report(0.5, 1)
        trial.should_prune()
        study.tell(trial, 0.5)

    return (
        "Optuna's part of a trial: random search, one report",
        "µs",
        compare(per_call(ours, 30), per_call(rival, 30), pairs),
    )


def tracking(pairs: int) -> Found:
    """tracking / MLflow's client: a run with 25 parameters, 8 tags and 18 metrics, from start to end."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    from studies.acceleration import for_tracking
    from studies.protocol.events import Metrics
    from studies.tracking.client import Tracking

    folder = tempfile.TemporaryDirectory()
    ours_uri, rival_uri = (f"sqlite:///{folder.name}/{side}.db" for side in ("ours", "rival"))
    tags = {f"tag.{number}": "value" for number in range(8)}
    params = {f"model.parameter_{number}": number for number in range(25)}
    values = {f"val/metric_{number}": 0.5 for number in range(5)}
    owner = Tracking(ours_uri, Path(folder.name) / "ours", **for_tracking())
    Tracking(rival_uri, Path(folder.name) / "rival")  # creates the database
    client = MlflowClient(rival_uri)
    mine, theirs = owner.experiment("x"), client.create_experiment("x")

    def ours() -> None:
        run_id = owner.start(mine, "trial", params, tags)
        for step in range(3):
            owner.log(run_id, Metrics(step, 0, values))
        owner.end(run_id, "FINISHED", "done")

    def rival() -> None:
        run_id = client.create_run(theirs, run_name="trial", tags=tags).info.run_id
        client.log_batch(run_id, params=[Param(name, str(value)) for name, value in params.items()])
        rows = [(name, value, step) for step in range(3) for name, value in {**values, "epoch": 0.0}.items()]
        stamp = int(time.time() * 1000)
        metrics = [Metric(name, value, stamp, step) for name, value, step in rows]
        client.log_batch(run_id, metrics, tags=[RunTag("outcome", "done")])
        client.set_terminated(run_id)

    return "MLflow's part of a trial, in as few calls", "µs", compare(per_call(ours, 30), per_call(rival, 30), pairs)


def searched() -> dict[str, Any]:
    """Optuna's distributions of four searched parameters."""
    import optuna

    return {
        "rate": optuna.distributions.FloatDistribution(1e-4, 0.1, log=True),
        "batch_size": optuna.distributions.CategoricalDistribution([64, 128, 256]),
        "sizes": optuna.distributions.CategoricalDistribution(["[128]", "[256, 128]", "[512, 256]"]),
        "dropout": optuna.distributions.FloatDistribution(0.0, 0.4),
    }


def tpe(pairs: int) -> Found:
    """cached_tpe / Optuna's TPESampler: four parameters drawn after 10,000 trials, in memory."""
    import optuna

    from studies.acceleration.optuna.cached_tpe import CachedTPE

    distributions = searched()

    def drawing(sampler: optuna.samplers.BaseSampler) -> Callable[[], None]:
        random = np.random.default_rng(0)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for _ in range(10_000):
            study.tell(study.ask(distributions), random.random())
        study.sampler = sampler

        def draw() -> None:
            study.tell(study.ask(distributions), 0.5)

        return draw

    ours, rival = drawing(CachedTPE(0)), drawing(optuna.samplers.TPESampler(seed=0))
    return "TPE's draw after 10,000 trials", "µs", compare(per_call(ours, 10), per_call(rival, 10), pairs)


def density(pairs: int) -> Found:
    """parzen_density / Optuna's log_pdf: 24 points among 10,000 kernels of four parameters."""
    import optuna
    from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator

    from studies.acceleration.optuna.parzen_density import log_density

    space = searched()

    def drawn(count: int) -> dict[str, Any]:
        random = np.random.default_rng(count)
        kinds = {name: random.integers(0, 3, count).astype(float) for name in ("batch_size", "sizes")}
        numbers = {"rate": 10 ** random.uniform(-4, -1, count), "dropout": random.uniform(0.0, 0.4, count)}
        return {**kinds, **numbers}

    parameters = optuna.samplers.TPESampler()._parzen_estimator_parameters
    estimator, points = _ParzenEstimator(drawn(10_000), space, parameters), drawn(24)
    ours, rival = (lambda: log_density(estimator, points)), (lambda: estimator.log_pdf(points))
    return "TPE's density of 10,000 kernels at 24 points", "µs", compare(per_call(ours, 10), per_call(rival, 10), pairs)


def pictures(pairs: int) -> Found:
    """Panels / Axes: a confusion matrix of ten classes and four learning curves, drawn and written as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from studies.acceleration.matplotlib import quick_text
    from studies.plots import classification as plots
    from studies.plots import figure as figures
    from studies.plots.learning_curves import learning_curves

    quick_text.warm_up()

    random = np.random.default_rng(0)
    counts = np.diag(random.integers(300, 500, 10)) + random.integers(0, 9, (10, 10))
    names = [str(digit) for digit in range(10)]
    steps = list(range(0, 500, 50))
    series = {name: (steps, list(random.random(10))) for name in ("train/loss", "val/loss", "train/b", "train/c")}
    folder = tempfile.TemporaryDirectory()

    def ours() -> None:
        figures.save(plots.confusion_matrix(counts, names), Path(folder.name) / "matrix.png")
        figures.save(learning_curves(series), Path(folder.name) / "curves.png")

    def rival() -> None:
        matrix = Figure(figsize=(6.77, 6.5), dpi=100)
        axes = matrix.add_subplot()
        axes.imshow(counts)
        axes.set(xticks=range(10), yticks=range(10), xticklabels=names, yticklabels=names, title="Confusion matrix")
        for row, column in zip(*counts.nonzero(), strict=True):
            axes.text(column, row, str(counts[row, column]), ha="center", va="center")
        curves = Figure(figsize=(12, 3.1), dpi=100)
        for place, axes in zip(("loss", "b", "c"), curves.subplots(1, 3), strict=True):
            for name in series:
                if name.endswith(place):
                    axes.plot(*series[name], "o-", label=name)
            axes.set(title=place, xlabel="optimizer step")
            axes.grid()
            axes.legend()
        for figure in (matrix, curves):
            FigureCanvasAgg(figure).print_png(io.BytesIO())

    return "a confusion matrix and learning curves as PNG", "µs", compare(per_call(ours, 5), per_call(rival, 5), pairs)


def allocator(pairs: int) -> Found:
    """malloc that keeps freed memory / default malloc: a step of a convolutional network, in a separate process."""

    def measured(keep: bool) -> Callable[[], float]:
        command = [sys.executable, __file__, "--cnn", "keep" if keep else "usual"]
        return lambda: float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    return "a step of mnist_cnn at twice its width, batch 256", "µs", compare(measured(True), measured(False), pairs)


def cnn_step(keep: bool) -> None:
    """Prints the microseconds of a step."""
    from studies.acceleration.training.malloc import keep_freed_memory

    if keep:
        assert keep_freed_memory(), "settings of malloc in the environment are in the way"
    model = CNN(architecture="small", width=32, depth=3).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    batch = torch.randn(256, 1, 28, 28), torch.randint(0, 10, (256,))

    def step() -> None:
        loss, _ = model.loss_and_outputs(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    print(statistics.median(per_call(step, 4)() for _ in range(5)))


def guards(pairs: int) -> Found:
    """The accelerated loop / the same without the checks at each step."""
    import logging

    from pytorch_lightning import Trainer

    from datamodules.in_memory_loader import InMemoryLoader
    from studies.acceleration.training.epoch_loop import PlainStep, _Listeners, speed_up
    from studies.acceleration.training.optimizer_step import FusedAdam

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    blind: dict[tuple[type, str], Callable[..., bool]] = {
        (PlainStep, "is_current"): lambda self: True,
        (_Listeners, "are_still_none"): lambda self: self.are_none,
        (_Listeners, "are_none_by_themselves"): lambda self: self.are_none,
        (FusedAdam, "is_untouched"): lambda self: True,
        (FusedAdam, "_is_current"): lambda self: bool(self._groups),
    }
    looking = {(cls, name): getattr(cls, name) for cls, name in blind}
    tensors = torch.randn(64 * 400, 1, 28, 28), torch.randint(0, 10, (64 * 400,))

    def fit(methods: dict[tuple[type, str], Callable[..., bool]]) -> Callable[[], float]:
        def measured() -> float:
            for (cls, name), method in methods.items():
                setattr(cls, name, method)
            silent = dict.fromkeys(
                ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
            )
            trainer: Any = Trainer(max_epochs=3, accelerator="cpu", **silent)
            speed_up(trainer)
            module = MLP(hidden_sizes=[128, 64], dropout=0.2)
            began = time.perf_counter()
            trainer.fit(module, InMemoryLoader(tensors, 64, shuffle=True))
            return time.perf_counter() - began

        return measured

    try:
        found = compare(fit(looking), fit(blind), pairs)
    finally:
        for (cls, name), method in looking.items():
            setattr(cls, name, method)
    return "a fit of an MLP of 128 and 64 units, 1,200 steps of 64", "s", found


PIECES = {
    piece.__name__: piece
    for piece in (
        dropout,
        step,
        replay,
        packed_replay,
        storage,
        journal,
        tracking,
        tpe,
        density,
        pictures,
        allocator,
        guards,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pieces", nargs="*", help=f"of {', '.join(PIECES)} (default: all)")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cnn", choices=["keep", "usual"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.cnn:
        cnn_step(options.cnn == "keep")
        return
    if unknown := set(options.pieces) - set(PIECES):
        parser.error(f"unknown piece {', '.join(unknown)}; there are {', '.join(PIECES)}")
    print("| piece | on | ratio of medians | spread of pairs | ours | the library's | unit |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in options.pieces or PIECES:
        what, unit, found = PIECES[name](options.pairs)
        low, high = found.spread
        ours, rival = statistics.median(found.ours), statistics.median(found.rival)
        cells = (name, what, f"{found.ratio:.2f}", f"{low:.2f} to {high:.2f}")
        print(f"| {' | '.join(cells)} | {ours:.4g} | {rival:.4g} | {unit} |", flush=True)


if __name__ == "__main__":
    main()
