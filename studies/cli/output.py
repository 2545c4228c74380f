"""Output of commands: text, or one JSON object."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.cli.streams import show
from studies.common.running_ui import running_ui
from studies.common.short_ids import run_ids, short_id, short_ids
from studies.common.state_folder import StateFolder
from studies.common.strict_json import json_line
from studies.console.tables import align, leaderboard
from studies.protocol.output_log import output_log

if TYPE_CHECKING:
    from studies.driver.session import Result


def trained(result: Result, as_json: bool) -> int:
    """Prints the result of `harness train`; returns the exit status."""
    fields = result.fields
    if as_json:
        answer = {"run_id": fields["run_id"], "status": result.status, "metrics": fields["metrics"]}
        answer["failure"] = fields["error"] or None
        print_json({**answer, "wall_seconds": round(result.wall_seconds, 3)})
    else:
        for name, value in fields["metrics"].items():
            show(f"{name:24s} {value:.6g}")
        show(f"\nrun    {fields['run_id']}  {result.status} in {result.wall_seconds:.0f} s")
        show(f"files  {_short(fields['folder'])}")
        again = f"harness resume {short_id(fields['run_id'], StateFolder.find())}"
        show(f"next:  {look_at(fields['page']) if result.status == 'finished' else again}")
    if fields["error"]:
        show(f"harness: {fields['error']} (log: {_short(str(output_log(fields['folder'])))})", file=sys.stderr)
    return exit_status(result)


def replicated(result: Result, as_json: bool) -> int:
    """Prints the result of `harness train --seeds`: each metric's mean and interval; returns the exit status."""
    fields = result.fields
    finished = sum(run["status"] == "finished" for run in fields["seeds"])
    if as_json:
        answer = {name: fields[name] for name in ("run_id", "metric", "seeds")}
        answer |= {"status": result.status, "failure": fields["error"]}
        answer["metrics"] = {name: summary.to_json() for name, summary in fields["metrics"].items()}
        print_json({**answer, "wall_seconds": round(result.wall_seconds, 3)})
    else:
        rows = [["metric", "mean", "std", "95% interval", "seeds"]]
        for name, summary in fields["metrics"].items():
            known = summary.low is not None
            between = f"{summary.low:.6g} to {summary.high:.6g}" if known else ""
            rows.append([name, f"{summary.mean:.6g}", f"{summary.std:.2g}" if known else "", between, summary.seeds])
        width = shutil.get_terminal_size((1_000_000, 24)).columns
        for line in align([list(map(str, column)) for column in zip(*rows, strict=True)], width):
            show(line)
        show(f"\nrun    {fields['run_id']}  {finished} of {fields['planned']} seeds in {result.wall_seconds:.0f} s")
        show(f"files  {_short(fields['folder'])}")
        again = f"harness resume {short_id(fields['run_id'], StateFolder.find())}"
        show(f"next:  {look_at(fields['page']) if result.status == 'finished' else again}")
    if fields["error"]:
        show(f"harness: {fields['error']}", file=sys.stderr)
    return exit_status(result)


def predicted(answer: dict[str, Any], as_json: bool) -> int:
    """Prints a model's answer to each input; returns 1 if some inputs could not be read, with a line about each."""
    for bad in answer["errors"]:
        show(
            f"harness: {bad['error'] if bad['input'] in bad['error'] else '{input}: {error}'.format(**bad)}",
            file=sys.stderr,
        )
    status = 1 if answer["errors"] else 0
    if as_json:
        print_json(answer)
        return status
    rows = answer["predictions"]
    width = min(40, max(len(row["input"]) for row in rows))
    for row in rows:
        said = row["answer"] if isinstance(row["answer"], str) else f"{row['answer']:.6g}"
        sure = f"  {row['probability']:.1%}" if "probability" in row else ""
        notes = f"  ({'; '.join(row['notes'])})" if row["notes"] else ""
        show(f"{row['input']:{width}s} -> {said}{sure}{notes}")
    return status


def exported(answer: dict[str, Any], as_json: bool) -> int:
    """Prints the exported file, its inputs and outputs, how it was verified, and how to use it."""
    if as_json:
        print_json(answer)
        return 0
    show(f"file    {_short(answer['path'])}  {answer['bytes'] / 1e6:.3g} MB")
    most = "".join(f", {name} at most {size}" for name, size in answer["at_most"].items())
    for kind in ("inputs", "outputs"):
        for item in answer[kind]:
            shape = ", ".join(map(str, item["shape"])) + ("," if len(item["shape"]) == 1 else "")
            said = most if kind == "inputs" else ""
            show(f"{kind[:-1]:7s} {item['name']} {item['dtype']} ({shape}){said}")
    check = answer["check"]
    batches = " and ".join(", ".join(map(str, check["batches"])).rsplit(", ", 1))
    lengths = "" if check["lengths"] is None else ", lengths {} to {}".format(*check["lengths"])
    found = f"largest difference {check['largest_difference']:.1e} (tolerance {check['tolerance']:.0e})"
    found = found if check["tolerance"] else "all outputs are equal"
    show(f"checked on {check['inputs']} real inputs, batches of {batches}{lengths}: {found}\n")
    for line in usage(answer):
        show(f"    {line}")
    return 0


def usage(answer: dict[str, Any]) -> list[str]:
    """Python code that runs the exported model."""
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
        f'metadata = safetensors.safe_open({path!r}, "pt").metadata()  # how the module was built',
        f'module = {answer["class_path"]}(**json.loads(metadata["init_args"])).eval()',
        f"safetensors.torch.load_model(module, {path!r})",
    ]


def studied(result: Result, as_json: bool) -> int:
    """Prints the result of `harness study`; returns the exit status."""
    fields = result.fields
    if as_json:
        names = ("study", "run_id", "metric", "direction", "trials", "best", "test")
        answer = {"status": result.status, **{name: fields[name] for name in names}}
        answer |= {name: fields[name] for name in ("further", "front") if fields["further"]}
        print_json({**answer, "wall_seconds": round(result.wall_seconds, 3)})
        return exit_status(result)
    rows = fields["trials"]
    best = fields["best"]["number"] if fields["best"] else None
    show(leaderboard(with_short_ids(rows), fields["metric"], fields["direction"], best, further=fields["further"]))
    if fields["further"] and best is not None:
        show(f"champion: trial {best}, of the Pareto front the best by {fields['metric']}, the first metric")
    for name, value in fields["test"].items():
        show(f"champion's {name} {value:.6g}")
    show(f"\nstudy  {fields['study']}  {result.status} in {result.wall_seconds:.0f} s")
    show(f"files  {_short(str(StateFolder.find().folder))}")
    again = "run the same command again to resume, or " if result.status in ("interrupted", "timeout") else ""
    show(f"next:  {again}{look_at(fields['page'])}")
    return exit_status(result)


def look_at(page: str) -> str:
    """How to look at a page of MLflow's UI: its address if one is running, else the command that starts it."""
    address = running_ui(StateFolder.find())
    return "harness ui" if address is None else f"{address}/{page}"


def with_short_ids(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Trials for the leaderboard, with the short ids of their runs as `run`."""
    ids = [row["run_id"] for row in rows if row["run_id"] is not None]
    short = short_ids(ids, run_ids(StateFolder.find()))
    return [{**row, "run": short.get(row["run_id"], "")} for row in rows]


def exit_status(result: Result) -> int:
    if result.status == "interrupted" and result.signal is not None:
        return 128 + result.signal
    return 0 if result.status in ("finished", "timeout") else 1


def print_json(answer: dict[str, Any]) -> None:
    print(json_line(answer), flush=True)


def _short(path: str) -> str:
    """A path relative to the current folder, if below it."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path
