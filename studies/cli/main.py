"""The command `harness`: calls what was asked for and exits. What is heavy is imported inside the command that
needs it.

Exit status: 0 done, 1 the work failed, 2 bad input, 130 or 143 interrupted, 141 nobody reads the output any more. With
--json the last line of stdout is one JSON object; everything else goes to stderr.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import re
import select
import signal
import sys
import warnings
from typing import Any, TextIO

try:
    from studies.cli.parser import BadInput, build_parser, parse
    from studies.common.errors import StorageFailed, WorkFailed, chain
    from studies.common.plain import is_plain, made_plain
    from studies.common.search_path import use
    from studies.common.strict_json import json_line
    from studies.config.experiment import EXECUTORS, PRUNERS, SAMPLERS, Experiment, load, named, override, shipped
except KeyboardInterrupt:  # nobody is there yet to say it better
    raise SystemExit(130) from None

# Python's own, of what is of no use to users.
UNSEEN_WARNINGS = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    if argv is None:
        _let_libraries_warn()
    _prepare_streams()
    atexit.register(_leave)
    try:
        status = _answer(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except OSError:  # not even what is wrong can be printed
        status = 1
    if any([_let_go_of(stream) for stream in (sys.stdout, sys.stderr)]):
        status = 128 + signal.SIGPIPE
    if status == 130 and argv is None:  # once more ends what is left of it at once, and without a word
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return status


def _answer(argv: list[str]) -> int:
    as_json = "--json" in argv
    try:
        if argv[:1] in (["train"], ["study"]) and {"--help", "-h"} & set(argv) and len(argv) > 2:
            return _help(argv)
        options, overrides = parse(argv)
        if options.command is None:
            build_parser().print_help()
            return 2
        with made_plain(getattr(options, "plain", False)):
            return COMMANDS[options.command](options, overrides, argv)
    except ValueError as error:
        return _fail(str(error), 2, as_json)
    except KeyboardInterrupt:
        return _fail("interrupted", 130, as_json)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and (_is_deserted(sys.stdout) or _is_deserted(sys.stderr)):
            raise
        return _fail(f"{type(error).__name__}: {error}", 1, as_json)
    except Exception as error:
        if any(isinstance(cause, KeyboardInterrupt) for cause in chain(error)):  # an import that it broke off
            return _fail("interrupted", 130, as_json)
        if isinstance(error, WorkFailed | StorageFailed):
            return _fail(str(error), 1, as_json)
        raise


def _let_libraries_warn() -> None:
    """Where all warnings shall be errors, that is for the user's code, which runs in other processes."""
    if any(option.startswith("error") for option in sys.warnoptions):
        warnings.resetwarnings()
        for category in UNSEEN_WARNINGS:
            warnings.simplefilter("ignore", category)


def _prepare_streams() -> None:
    """Whatever is to be printed can be: a stream that is closed takes it, and so does one of ASCII."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _let_go_of(stream: TextIO) -> bool:
    """Turns a stream that cannot be written to where all goes, for Python writes what is left of it at its end.

    Returns:
        Whether it is a pipe that nobody reads any more.
    """
    try:
        stream.flush()
        deserted = _is_deserted(stream)
    except OSError as error:
        deserted = isinstance(error, BrokenPipeError)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    return deserted


def _is_deserted(stream: TextIO) -> bool:
    """Whether a stream is a pipe that nobody reads any more."""
    poll = select.poll()
    try:
        poll.register(stream.fileno(), select.POLLOUT)
    except (OSError, ValueError):  # a stream of Python's alone, or closed
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _leave() -> None:
    """Spares Python from looking at all that was imported once more before it ends: a second."""
    if "torch" not in sys.modules:  # what comes with it (nanobind) would take that for leaks, and say so
        gc.freeze()


def _fail(message: str, status: int, as_json: bool) -> int:
    error, _, hint = message.partition("; did you mean ")
    line = " ".join(message.split())
    print(f"harness: {line}", file=sys.stderr)
    if as_json:
        print(json_line({"error": error, "hint": f"did you mean {hint}" if hint else ""}))
    return status


def _load(options: argparse.Namespace, overrides: dict[str, str]) -> Experiment:
    from studies.config.experiment import checked_seed

    experiment = load(options.experiment, options.config)
    override(experiment, overrides)
    if options.seed is not None:
        experiment.seed = checked_seed(options.seed)
    use(experiment.search_path)  # for a space that is a function
    if options.executor is not None:
        experiment.executor = named("executor", options.executor, EXECUTORS)
    return experiment


def _threads(options: argparse.Namespace) -> int:
    """--threads, or 0 where it is left to the executor."""
    if options.threads is None:
        return 0
    _at_least("threads", options.threads)
    return int(options.threads)


def _at_least(name: str, value: float, low: float = 1) -> None:
    if not value >= low:
        raise BadInput(f"{name} must be at least {low}, but got {name}={value}")


def _list(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    experiments = [load(name) for name in shipped()]
    if options.json:
        print(json_line({"experiments": [_listed(item) for item in experiments]}))
        return 0
    for item in experiments:
        print(f"{item.name}\n    {item.description}")
        print(f"    model {item.model['class_path']}  data {(item.data or {}).get('class_path')}")
        if item.search:
            print(f"    space {', '.join(item.search.space)}  by {item.search.metric} ({item.search.direction})")
    print("\nnext: harness train NAME, or harness study NAME --trials 20 --workers 2")
    return 0


def _listed(item: Experiment) -> dict[str, Any]:
    search = item.search
    return {
        "name": item.name,
        "description": item.description,
        "model": item.model["class_path"],
        "data": (item.data or {}).get("class_path"),
        "space": search.space_as_written if search else None,
        "metric": search.metric if search else None,
    }


def _help(argv: list[str]) -> int:
    """`harness train NAME --help`: the command's options, then every parameter with its docstring."""
    name = next((item for item in argv[1:] if not item.startswith("-")), None)
    parser = build_parser()
    subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    subparsers.choices[argv[0]].print_help()
    if name is not None:
        experiment = load(name)
        use(experiment.search_path)
        print("\nreading the parameters' types and docstrings (imports torch) ...", file=sys.stderr)
        from studies.trial.arguments import help_of

        print(f"\nParameters of {experiment.name}, with its values as defaults:\n")
        print(help_of(experiment.sections))
    return 0


def _train(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    experiment = _load(options, overrides)
    threads = _threads(options)
    from studies.cli import commands as report
    from studies.driver import commands as driver
    from studies.driver.session import Options

    how = Options(argv, threads=threads, executor=experiment.executor, test=not options.no_test)
    result = driver.train(experiment, how)
    return report.trained(result, options.json)


def _study(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    experiment = _load(options, overrides)
    _at_least("trials", options.trials)
    _at_least("workers", options.workers)
    _at_least("pack", options.pack)
    _at_least("max-failures", options.max_failures)
    threads = _threads(options)
    for name, seconds in {"timeout": options.timeout, "trial-timeout": options.trial_timeout}.items():
        if seconds is not None:
            _at_least(name, seconds)
    if options.study_name is not None and not re.fullmatch(r"[\w][\w.-]{0,99}", options.study_name):
        raise BadInput(f"study-name must be letters, digits, '.', '_' and '-', but got {options.study_name!r}")
    if experiment.executor == "inline" and options.workers != 1:
        raise BadInput(f"workers must be 1 with the inline executor, but got workers={options.workers}")
    if experiment.executor == "inline" and options.pack != 1:
        raise BadInput(f"pack must be 1 with the inline executor, but got pack={options.pack}")
    if is_plain() and options.pack != 1:
        raise BadInput(f"pack must be 1 with --plain (HARNESS_PLAIN), but got pack={options.pack}")
    if experiment.search is not None:
        if options.sampler is not None:
            experiment.search.sampler = named("sampler", options.sampler, SAMPLERS)
        if options.pruner is not None:
            experiment.search.pruner = named("pruner", options.pruner, PRUNERS)
    from studies.cli import commands as report
    from studies.driver import commands as driver
    from studies.driver.session import Options

    result = driver.run_study(
        experiment,
        Options(
            argv,
            workers=options.workers,
            threads=threads,
            pack=options.pack,
            executor=experiment.executor,
            test=not options.no_test,
            trials=options.trials,
            timeout=options.timeout,
            trial_timeout=options.trial_timeout,
            max_failures=options.max_failures,
            retry_failed=options.retry_failed,
            study_name=options.study_name,
            storage=options.storage,
        ),
    )
    return report.studied(result, options.json)


def _extend(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    for name in ("top", "epochs", "workers"):
        _at_least(name, getattr(options, name))
    threads = _threads(options)
    from studies.cli import commands as report
    from studies.driver import commands as driver
    from studies.driver.session import Options

    test = not options.no_test
    how = Options(argv, workers=options.workers, threads=threads, test=test, storage=options.storage)
    return report.studied(driver.extend(options.study, options.top, options.epochs, how), options.json)


def _runs(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    _at_least("limit", options.limit)
    from studies.cli import commands as report

    return report.runs(options.experiment, options.study, options.limit, options.json)


def _compare(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.cli import commands as report

    return report.compare(options.runs, options.json)


def _predict(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.cli import commands as report
    from studies.inference import predict as asking

    return report.predicted(asking.ask(options.model, options.inputs), options.json)


def _export(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.cli import commands as report
    from studies.inference import export as exporting

    return report.exported(exporting.export(options.model, options.format, options.output), options.json)


def _demo(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.cli import commands as report

    return report.demo(options.model, options.host, options.port, not options.no_open, options.json)


def _doctor(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.cli import commands as report

    return report.doctor(options.storage, options.fix, options.json)


def _ui(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    if options.port is not None and not 1 <= options.port <= 65535:
        raise BadInput(f"port must be between 1 and 65535, but got port={options.port}")
    from studies.cli import commands as report

    return report.ui(options.experiment, options.host, options.port, not options.no_open, options.json)


COMMANDS = {
    "list": _list,
    "train": _train,
    "study": _study,
    "extend": _extend,
    "runs": _runs,
    "compare": _compare,
    "predict": _predict,
    "export": _export,
    "demo": _demo,
    "doctor": _doctor,
    "ui": _ui,
}


if __name__ == "__main__":
    raise SystemExit(main())
