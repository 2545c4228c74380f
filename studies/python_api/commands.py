"""`studies.train`, `study`, `resume` and `confirm`: the commands of these names, called from Python."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from studies.common.sources import OBJECTS
from studies.common.state_folder import StateFolder
from studies.config.yaml_io import dump_yaml
from studies.python_api.command import run
from studies.python_api.experiment import Experiment
from studies.python_api.results import ReportPage, StudyResult, TrainResult
from studies.python_api.seeds_results import ConfirmResult, SeedsResult


def train(
    experiment: str | Path | Experiment | None = None,
    *,
    from_run: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    config: Iterable[str | Path] = (),
    seed: int | None = None,
    seeds: int | Iterable[int] | None = None,
    until: float | None = None,
    workers: int = 1,
    test: bool = True,
    name: str | None = None,
    tags: Mapping[str, Any] | None = None,
    note: str | None = None,
    notify: str | None = None,
    threads: int | None = None,
    plain: bool = False,
    trust: bool = False,
) -> TrainResult | SeedsResult:
    """Trains an experiment once, or once for each of several seeds, as `harness train` does.

    Args:
        experiment: the name of a shipped experiment, the path of a .yaml file, or an Experiment.
        from_run: a run's configuration and seed instead: an id or unique prefix, latest, best:STUDY or STUDY/NUMBER.
        overrides: values by dotted name, e.g. {"model.learning_rate": 0.01, "trainer.max_epochs": 3}.
        config: .yaml files that override the experiment's values.
        seed: training seed from 0 to 2**31 - 1; None: the experiment's.
        seeds: how many seeds, counted from `seed`, or which ones; the result then has means with intervals.
        until: with seeds, end once the 95% interval of the searched metric is within this on either side.
        workers: with seeds, runs at once, at least 1.
        test: whether to evaluate the best checkpoint on the test set.
        name: of the run in MLflow; None: what differs from the experiment.
        tags: of the run in MLflow.
        note: shown on the run's page in MLflow.
        notify: an http(s) URL to which JSON about the end is posted; see docs/terminal.md.
        threads: CPU threads, at least 1; None: all cores.
        plain: no acceleration: Lightning's own loop.
        trust: run the code that a state folder names which you have not created.

    Raises:
        ValueError: bad input; nothing was created.
        WorkFailed: the training failed; its run has the reason.
        KeyboardInterrupt: it was interrupted; `studies.resume("latest")` continues it.
    """
    arguments = ["train", *_experiment(experiment)] if experiment is not None else ["train"]
    arguments += _options({"from": from_run, "config": list(config), "seed": seed, "name": name, "note": note})
    arguments += _options({"no-test": not test, "tag": _tags(tags)})
    arguments += _options({"notify": notify, "threads": threads, "plain": plain, "trust": trust})
    if seeds is not None:
        listed = str(seeds) if isinstance(seeds, int) else ",".join(map(str, seeds)) + ","
        arguments += _options({"seeds": listed})
    arguments += _options({"until": until, "workers": workers if workers != 1 else None})
    return _trained(run(arguments + _overrides(overrides)))


def study(
    experiment: str | Path | Experiment,
    *,
    trials: int = 10,
    workers: int = 1,
    study_name: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    config: Iterable[str | Path] = (),
    sampler: str | None = None,
    pruner: str | None = None,
    seed: int | None = None,
    enqueue: Iterable[Mapping[str, Any]] = (),
    from_study: str | None = None,
    timeout: float | None = None,
    trial_timeout: float | None = None,
    max_failures: int = 10,
    retry_failed: bool = False,
    pack: int = 1,
    test: bool = True,
    name: str | None = None,
    tags: Mapping[str, Any] | None = None,
    note: str | None = None,
    storage: str | None = None,
    notify: str | None = None,
    threads: int | None = None,
    plain: bool = False,
    trust: bool = False,
) -> StudyResult:
    """Searches an experiment's space until there are `trials` trials in total, as `harness study` does.

    A call with the same study continues it. Arguments that `train` has too mean the same.

    Args:
        trials: total number of trials, at least 1.
        workers: trials to run at once, at least 1.
        study_name: None: the experiment's name.
        sampler: random, grid, tpe, gp, cmaes, nsga2 or a class path; None: the experiment's.
        pruner: none, median, hyperband, asha or a class path; None: the experiment's.
        seed: study seed, from which trial seeds are derived.
        enqueue: values by parameter, e.g. [{"model.learning_rate": 0.01}]: each is tried first, once.
        from_study: another study, whose results the sampler learns from without counting them.
        timeout: seconds after which to stop.
        trial_timeout: seconds without an event after which a trial fails.
        max_failures: failed trials in a row that end the study.
        retry_failed: run failed trials again, as new trials.
        pack: trials that each worker trains as one model, where that is faster.
        test: whether to evaluate the champion on the test set and register it.
        storage: URL of Optuna's database; None: the state folder's.

    Raises:
        ValueError: bad input; nothing was created.
        WorkFailed: no trial was completed.
        KeyboardInterrupt: it was interrupted; the same call continues it.
    """
    arguments = ["study", *_experiment(experiment), "--trials", str(trials), "--workers", str(workers)]
    arguments += _options({"study-name": study_name, "config": list(config), "sampler": sampler, "pruner": pruner})
    values = [",".join(f"{key}={_yaml(value)}" for key, value in item.items()) for item in enqueue]
    arguments += _options({"enqueue": values, "from-study": from_study})
    arguments += _options({"seed": seed, "timeout": timeout, "trial-timeout": trial_timeout, "storage": storage})
    arguments += _options({"max-failures": max_failures, "retry-failed": retry_failed, "pack": pack})
    arguments += _options({"no-test": not test, "name": name, "tag": _tags(tags), "note": note})
    arguments += _options({"notify": notify, "threads": threads, "plain": plain, "trust": trust})
    return StudyResult.of(run(arguments + _overrides(overrides)))


def resume(
    run_name: str = "latest",
    *,
    overrides: Mapping[str, Any] | None = None,
    test: bool = True,
    notify: str | None = None,
    threads: int | None = None,
    plain: bool = False,
    trust: bool = False,
) -> TrainResult | SeedsResult:
    """Continues an interrupted or failed run of `train`, or trains a finished one further, as `harness resume` does.

    Args:
        run_name: an id or unique prefix, or latest.
        overrides: for a finished run, {"trainer.max_epochs": N}.

    Raises:
        ValueError: bad input; nothing was changed.
        WorkFailed: the training failed.
        KeyboardInterrupt: it was interrupted again.
    """
    options = {"no-test": not test, "notify": notify, "threads": threads, "plain": plain, "trust": trust}
    return _trained(run(["resume", run_name, *_options(options), *_overrides(overrides)]))


def confirm(
    study_name: str,
    *,
    top: int = 2,
    seeds: int = 10,
    baseline: bool = True,
    workers: int = 1,
    test: bool = True,
    storage: str | None = None,
    notify: str | None = None,
    threads: int | None = None,
    plain: bool = False,
    trust: bool = False,
) -> ConfirmResult:
    """Trains a study's best trials and the experiment's defaults on fresh seeds, as `harness confirm` does.

    Args:
        study_name: name of the study.
        top: how many of its best trials, at least 1; with more of them, a difference is found less often.
        seeds: fresh seeds for each, at least 2.
        baseline: compare with the experiment's own values, too.
        workers: runs at once, at least 1.
        test: whether to test and register a confirmed winner.
        storage: URL of Optuna's database; None: the state folder's.

    Raises:
        ValueError: there is no such study, or nothing to compare.
        WorkFailed: all trainings failed.
        KeyboardInterrupt: it was interrupted; the same call continues it.
    """
    options: dict[str, Any] = {
        "top": top,
        "seeds": seeds,
        "no-baseline": not baseline,
        "workers": workers,
        "no-test": not test,
    }
    options |= {"storage": storage, "notify": notify, "threads": threads, "plain": plain, "trust": trust}
    return ConfirmResult.of(run(["confirm", study_name, *_options(options)]))


def report(*names: str, output: str | Path | None = None) -> ReportPage:
    """Writes one self-contained HTML page of a study, or of runs, as `harness report` does.

    Args:
        names: a study, or runs as for `compare`.
        output: the file; None: report-NAME.html in the current folder.

    Returns:
        The page; its `path` is the file. A notebook shows it in the cell.

    Raises:
        ValueError: there is no such study or run.
    """
    return ReportPage(Path(run(["report", *names, *_options({"output": output})])["path"]))


def _trained(answer: dict[str, Any]) -> TrainResult | SeedsResult:
    return SeedsResult.of(answer) if "seeds" in answer else TrainResult.of(answer)


def _experiment(experiment: str | Path | Experiment) -> list[str]:
    if isinstance(experiment, Experiment):
        return [str(experiment.write(StateFolder.find().folder / OBJECTS))]
    if not isinstance(experiment, str | Path):
        raise ValueError(
            f"experiment must be a name, the path of a .yaml file or a studies.Experiment, but got {experiment!r:.80}"
        )
    return [str(experiment)]


def _options(values: Mapping[str, Any]) -> list[str]:
    """--name value of each; of True, the name alone; of a list, one for each item."""
    arguments = []
    for name, value in values.items():
        if value is None or value is False:
            continue
        items = value if isinstance(value, list) else [value]
        arguments += [f"--{name}" if item is True else f"--{name}={item}" for item in items]
    return arguments


def _tags(tags: Mapping[str, Any] | None) -> list[str]:
    return [f"{key}={value}" for key, value in (tags or {}).items()]


def _overrides(overrides: Mapping[str, Any] | None) -> list[str]:
    """--model.learning_rate=0.01 of each, as YAML."""
    for name, value in (overrides or {}).items():
        if not isinstance(value, str | bool | int | float | list | tuple | dict | None):
            raise ValueError(f"override {name} must be a value that YAML has, but got {value!r:.80}")
    return [f"--{name}={_yaml(value)}" for name, value in (overrides or {}).items()]


def _yaml(value: Any) -> str:
    if isinstance(value, list | tuple | dict):
        return json.dumps(value)
    return dump_yaml(value).removesuffix("\n").removesuffix("\n...")
