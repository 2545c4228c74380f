"""What commands print: results for people on stdout, or one JSON object; and the commands that only read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.common.sqlite_files import sqlite_path
from studies.common.state_folder import Home
from studies.common.strict_json import json_line
from studies.common.suggestions import nearest
from studies.console.tables import leaderboard

if TYPE_CHECKING:
    from studies.driver.session import Result
    from studies.tracking.client import Tracking
    from studies.tracking.run_info import RunInfo


def trained(result: Result, as_json: bool) -> int:
    """Prints what `harness train` came to; returns the exit status."""
    fields = result.fields
    if as_json:
        answer = {"run_id": fields["run_id"], "status": result.status, "metrics": fields["metrics"]}
        _print_json({**answer, "wall_seconds": round(result.wall_seconds, 3)})
    else:
        for name, value in fields["metrics"].items():
            print(f"{name:24s} {value:.6g}")
        print(f"\nrun    {fields['run_id']}  {result.status} in {result.wall_seconds:.0f} s")
        print(f"files  {_short(fields['folder'])}")
        print("next:  harness ui")
    if fields["error"]:
        print(f"harness: {fields['error']} (log: {_short(fields['folder'])}/log.txt)", file=sys.stderr)
    return _exit_status(result)


def predicted(answer: dict[str, Any], as_json: bool) -> int:
    """Prints what a model said to each input."""
    if as_json:
        _print_json(answer)
        return 0
    rows = answer["predictions"]
    width = min(40, max(len(row["input"]) for row in rows))
    for row in rows:
        said = row["answer"] if isinstance(row["answer"], str) else f"{row['answer']:.6g}"
        sure = f"  {row['probability']:.1%}" if "probability" in row else ""
        notes = f"  ({'; '.join(row['notes'])})" if row["notes"] else ""
        print(f"{row['input']:{width}s} -> {said}{sure}{notes}")
    return 0


def exported(answer: dict[str, Any], as_json: bool) -> int:
    """Prints what was written, what it takes and gives, how it was checked, and how to use it."""
    if as_json:
        _print_json(answer)
        return 0
    print(f"file    {_short(answer['path'])}  {answer['bytes'] / 1e6:.3g} MB")
    most = "".join(f", {name} at most {size}" for name, size in answer["at_most"].items())
    for kind in ("inputs", "outputs"):
        for item in answer[kind]:
            shape = ", ".join(map(str, item["shape"])) + ("," if len(item["shape"]) == 1 else "")
            said = most if kind == "inputs" else ""
            print(f"{kind[:-1]:7s} {item['name']} {item['dtype']} ({shape}){said}")
    check = answer["check"]
    batches = " and ".join(", ".join(map(str, check["batches"])).rsplit(", ", 1))
    lengths = "" if check["lengths"] is None else ", lengths {} to {}".format(*check["lengths"])
    found = f"largest difference {check['largest_difference']:.1e} (tolerance {check['tolerance']:.0e})"
    found = found if check["tolerance"] else "all outputs are equal"
    print(f"checked on {check['inputs']} real inputs, batches of {batches}{lengths}: {found}\n")
    for line in usage(answer):
        print(f"    {line}")
    return 0


def usage(answer: dict[str, Any]) -> list[str]:
    """Lines of Python that ask what was exported."""
    name, path = answer["inputs"][0]["name"], answer["path"]
    outputs = ", ".join(item["name"] for item in answer["outputs"])
    if answer["format"] == "onnx":
        one = f"({outputs},)" if len(answer["outputs"]) == 1 else outputs
        return [
            "import onnxruntime",
            f"session = onnxruntime.InferenceSession({path!r})",
            f'{one} = session.run(None, {{"{name}": {name}}})  # NumPy arrays',
        ]
    if answer["format"] == "pt2":
        return ["import torch", f"model = torch.export.load({path!r}).module()", f"output = model({name})  # tensors"]
    package = answer["class_path"].rpartition(".")[0]
    return [
        f"import json, safetensors.torch, {package}",
        f'said = safetensors.safe_open({path!r}, "pt").metadata()  # how the module was built',
        f'module = {answer["class_path"]}(**json.loads(said["init_args"])).eval()',
        f"safetensors.torch.load_model(module, {path!r})",
    ]


def studied(result: Result, as_json: bool) -> int:
    """Prints what `harness study` came to; returns the exit status."""
    fields = result.fields
    if as_json:
        answer = {"study": fields["study"], "status": result.status, "trials": fields["trials"]}
        answer |= {"best": fields["best"], "test": fields["test"]}
        _print_json({**answer, "wall_seconds": round(result.wall_seconds, 3)})
        return _exit_status(result)
    rows = fields["trials"]
    best = fields["best"]["number"] if fields["best"] else None
    print(leaderboard(rows, fields["metric"], fields["direction"], best))
    for name, value in fields["test"].items():
        print(f"champion's {name} {value:.6g}")
    print(f"\nstudy  {fields['study']}  {result.status} in {result.wall_seconds:.0f} s")
    print(f"files  {_short(str(Home.find().folder))}")
    again = "the same command again goes on; or " if result.status in ("interrupted", "timeout") else ""
    print(f"next:  {again}harness ui")
    return _exit_status(result)


def _exit_status(result: Result) -> int:
    if result.status == "interrupted" and result.signal is not None:
        return 128 + result.signal
    return 0 if result.status in ("finished", "timeout") else 1


def open_tracking() -> Tracking:
    """The tracking of this folder, for reading.

    Raises:
        ValueError: if there are no runs yet, or the server does not answer.
    """
    home = Home.find()
    home.check()
    database = sqlite_path(home.tracking_uri)
    if database is not None and not database.exists():
        raise ValueError(f"no runs yet in {home.folder}: `harness train NAME` makes one")
    from studies.tracking.client import Tracking

    return Tracking(home.tracking_uri, None if home.is_remote else home.artifacts, notice=_notice)


def _notice(line: str) -> None:
    print(f"harness: {line}", file=sys.stderr)


def runs(experiment: str | None, study: str | None, limit: int, as_json: bool) -> int:
    """`harness runs`."""
    found = open_tracking().runs(experiment, study, limit)
    if as_json:
        _print_json({"runs": [run.to_json() for run in found]})
        return 0
    print(f"{'run':12s} {'experiment':16s} {'name':24s} {'status':9s} best")
    for run in found:
        best = {name: value for name, value in run.metrics.items() if name.startswith("best/") and name.count("/") > 1}
        text = "  ".join(f"{name.removeprefix('best/')} {value:.4g}" for name, value in best.items())
        print(f"{run.run_id[:12]} {run.experiment:16.16s} {run.name:24.24s} {run.status:9s} {text}")
    print("\nnext: harness compare RUN RUN, or harness ui")
    return 0


def compare(prefixes: list[str], as_json: bool) -> int:
    """`harness compare`: the parameters in which the runs differ, then their metrics."""
    tracking = open_tracking()
    chosen = [_find(tracking, prefix) for prefix in prefixes]
    if as_json:
        _print_json({"runs": [run.to_json() for run in chosen]})
        return 0
    width = 18
    print(f"{'':28s}" + "".join(f"{run.name[: width - 1]:>{width}s}" for run in chosen))
    print(f"{'run':28s}" + "".join(f"{run.run_id[: width - 2]:>{width}s}" for run in chosen))
    print(f"{'status':28s}" + "".join(f"{run.status:>{width}s}" for run in chosen))
    for name in sorted({name for run in chosen for name in run.params}):
        values = [run.params.get(name, "-") for run in chosen]
        if len(set(values)) > 1:
            print(f"{name:28s}" + "".join(f"{value[: width - 1]:>{width}s}" for value in values))
    print()
    for name in sorted({name for run in chosen for name in run.metrics if not name.startswith("system/")}):
        numbers = [run.metrics.get(name) for run in chosen]
        print(f"{name:28s}" + "".join(f"{'-' if v is None else format(v, '.5g'):>{width}s}" for v in numbers))
    return 0


def _find(tracking: Tracking, prefix: str) -> RunInfo:
    """The run of an id or of the beginning of one."""
    if len(prefix) == 32:
        return tracking.run(prefix)
    every = tracking.runs(limit=100_000)
    matches = [run for run in every if run.run_id.startswith(prefix)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ValueError(f"run {prefix} is ambiguous: {', '.join(run.run_id for run in matches[:5])}")
    raise ValueError(f"unknown run {prefix}{nearest(prefix, [run.run_id for run in every[:10]])}")


def doctor(storage: str | None, fix: bool, as_json: bool) -> int:
    """`harness doctor`: 0 when all is sound (again), else 1."""
    from studies.console.progress import Display
    from studies.doctor.examination import visit

    home = Home.find(storage)
    if not home.folder.exists():
        raise ValueError(f"no runs yet in {home.folder}: `harness train NAME` makes one")
    home.check(databases=False)
    with Display(title="doctor", metric=None, direction="maximize", total=1, live=False) as display:
        found, left = visit(home, fix, display)
    if as_json:
        findings = [{"kind": item.kind, "where": item.where, "fix": item.fix} for item in found]
        _print_json({"sound": not left, "findings": findings})
    elif not found:
        print("all is sound")
    elif fix:
        print(f"{len(found)} found, {len(left)} left")
    else:
        for item in found:
            print(f"{item.kind}: {item.where}\n    --fix: {item.fix}")
        print(f"\n{len(found)} found\nnext:  harness doctor --fix")
    return 1 if left else 0


def ui(experiment: str | None, host: str, port: int | None, open_browser: bool, as_json: bool) -> int:
    """`harness ui`."""
    from studies.web.mlflow_ui import serve

    tracking = open_tracking()
    if experiment is None:
        newest = tracking.runs(limit=1)
        experiment = newest[0].experiment if newest else None
    path = tracking.view(tracking.experiment_id(experiment)) if experiment is not None else ""
    home = Home.find()

    def announce(url: str) -> None:
        print(json_line({"url": url}) if as_json else url, flush=True)

    return serve(
        home.tracking_uri,
        home.artifacts.as_uri(),
        host=host,
        port=port,
        open_browser=open_browser,
        path=path,
        announce=announce,
    )


def demo(model: str | None, host: str, port: int | None, open_browser: bool, as_json: bool) -> int:
    """`harness demo`."""
    from studies.web.demo import demo as serve

    def announce(url: str, run_ids: list[str]) -> None:
        print(json_line({"url": url, "run_ids": run_ids}) if as_json else url, flush=True)

    return serve(model, host, port, open_browser, announce)


def _print_json(answer: dict[str, Any]) -> None:
    print(json_line(answer), flush=True)


def _short(path: str) -> str:
    """A path below here as people type it."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path
