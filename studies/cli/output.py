"""Output of commands: text, or one JSON object."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.cli.streams import show
from studies.common.state_folder import StateFolder
from studies.common.strict_json import json_line
from studies.console.tables import leaderboard

if TYPE_CHECKING:
    from studies.driver.session import Result


def trained(result: Result, as_json: bool) -> int:
    """Prints the result of `harness train`; returns the exit status."""
    fields = result.fields
    if as_json:
        answer = {"run_id": fields["run_id"], "status": result.status, "metrics": fields["metrics"]}
        print_json({**answer, "wall_seconds": round(result.wall_seconds, 3)})
    else:
        for name, value in fields["metrics"].items():
            show(f"{name:24s} {value:.6g}")
        show(f"\nrun    {fields['run_id']}  {result.status} in {result.wall_seconds:.0f} s")
        show(f"files  {_short(fields['folder'])}")
        show("next:  harness ui")
    if fields["error"]:
        show(f"harness: {fields['error']} (log: {_short(fields['folder'])}/log.txt)", file=sys.stderr)
    return _exit_status(result)


def predicted(answer: dict[str, Any], as_json: bool) -> int:
    """Prints a model's answer to each input."""
    if as_json:
        print_json(answer)
        return 0
    rows = answer["predictions"]
    width = min(40, max(len(row["input"]) for row in rows))
    for row in rows:
        said = row["answer"] if isinstance(row["answer"], str) else f"{row['answer']:.6g}"
        sure = f"  {row['probability']:.1%}" if "probability" in row else ""
        notes = f"  ({'; '.join(row['notes'])})" if row["notes"] else ""
        show(f"{row['input']:{width}s} -> {said}{sure}{notes}")
    return 0


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
        answer = {"study": fields["study"], "status": result.status, "trials": fields["trials"]}
        answer |= {"best": fields["best"], "test": fields["test"]}
        print_json({**answer, "wall_seconds": round(result.wall_seconds, 3)})
        return _exit_status(result)
    rows = fields["trials"]
    best = fields["best"]["number"] if fields["best"] else None
    show(leaderboard(rows, fields["metric"], fields["direction"], best))
    for name, value in fields["test"].items():
        show(f"champion's {name} {value:.6g}")
    show(f"\nstudy  {fields['study']}  {result.status} in {result.wall_seconds:.0f} s")
    show(f"files  {_short(str(StateFolder.find().folder))}")
    again = "run the same command again to resume, or " if result.status in ("interrupted", "timeout") else ""
    show(f"next:  {again}harness ui")
    return _exit_status(result)


def _exit_status(result: Result) -> int:
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
