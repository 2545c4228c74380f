"""`harness diff`: in what two runs differ, from their parameters to the samples on which they disagree."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from studies.cli.bad_input import BadInput
from studies.cli.commands import find_run, open_tracking
from studies.cli.output import print_json
from studies.cli.streams import show
from studies.cli.tuning import new_file
from studies.common.short_ids import run_ids, short_ids
from studies.common.state_folder import StateFolder
from studies.common.text import visible

SPLITS = ("val", "test")
SHOWN = 20  # examples in the terminal
WIDEST = 60  # characters of a value


def diff(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    if options.split not in SPLITS:
        raise BadInput(f"split must be one of {', '.join(SPLITS)}, but got split={options.split!r}")
    tracking = open_tracking()
    one, other = find_run(tracking, options.run_a), find_run(tracking, options.run_b)
    if one.run_id == other.run_id:
        raise BadInput(f"{options.run_a} and {options.run_b} are the same run, {one.run_id}")
    state_folder = StateFolder.find()
    short = short_ids([one.run_id, other.run_id], run_ids(state_folder))
    names = (short[one.run_id], short[other.run_id])
    picture = new_file(options.output, f"diff-{names[0]}-{names[1]}")
    from studies.driver import run_differences as differences

    with tempfile.TemporaryDirectory(prefix="harness-diff-") as scratch:
        files = {
            name: tuple(
                differences.provenance_file(run, name, tracking, state_folder, Path(scratch)) for run in (one, other)
            )
            for name in ("packages.txt", "diff.patch")
        }
    first_patch, second_patch = files["diff.patch"]
    answer: dict[str, Any] = {
        "a": one.run_id,
        "b": other.run_id,
        "parameters": differences.parameter_differences(one, other),
        "code": differences.code_differences(one, other, (first_patch, second_patch)),
        "packages": differences.package_differences(*files["packages.txt"]),
        "data": differences.data_differences(one, other),
    }
    answer |= _predictions((one.run_id, other.run_id), names, options.split, picture, options.trust)
    if options.json:
        print_json(answer)
    else:
        _show(answer, f"{names[0]} {one.name}", f"{names[1]} {other.name}")
    return 0


def _predictions(
    runs: tuple[str, str], names: tuple[str, str], split: str, picture: Path, trust: bool
) -> dict[str, Any]:
    from studies.inference.disagreement import disagreement

    try:
        return {"predictions": disagreement(runs, names, split, picture, trust), "unpredicted": None}
    except ValueError as error:
        return {"predictions": None, "unpredicted": str(error)}


def _show(answer: dict[str, Any], one: str, other: str) -> None:
    show(f"A  {visible(one)}\nB  {visible(other)}")
    _table("parameters", [(item["name"], item["a"], item["b"]) for item in answer["parameters"]])
    code = answer["code"]
    _heading("code")
    if code["a"] != code["b"]:
        show(f"  commit  {code['a'] or '-'} -> {code['b'] or '-'}")
    if code["note"]:
        show(f"  {visible(code['note'])}")
    elif not code["files"]:
        show("  no difference")
    for name in code["files"]:
        show(f"  {visible(name)}")
    for line in code["diff"].splitlines():
        show(f"    {visible(line)}")
    if code["left_out"]:
        show(f"    ... and {code['left_out']} more lines")
    _table("packages", [(item["name"], item["a"], item["b"]) for item in answer["packages"]])
    rows = []
    for item in answer["data"]:
        rows.append((item["split"], item["a"], item["b"]))
        rows += [(f"  class {each['name']}", each["a"], each["b"]) for each in item["classes"]]
    _table("data", rows)
    _show_predictions(answer)


def _show_predictions(answer: dict[str, Any]) -> None:
    found = answer["predictions"]
    if found is None:
        _heading("predictions")
        show(f"  the models cannot be compared: {visible(answer['unpredicted'])}")
        return
    if found["classes"]:
        shares = [(row["name"], row["samples"], f"{row['a']:.2%}", f"{row['b']:.2%}") for row in found["classes"]]
        changed = [
            (*row, f"{100 * (item['b'] - item['a']):+.2f}") for row, item in zip(shares, found["classes"], strict=True)
        ]
        _table(f"right by class, {found['split']}", changed, ("class", "samples", "A", "B", "change"))
    _heading(f"disagreements, {found['split']}")
    show(f"  {found['disagreements']} of {found['samples']} samples")
    if found["right"] is not None:
        right = found["right"]
        show(f"  right: both {right['both']}, A alone {right['a']}, B alone {right['b']}, neither {right['neither']}")
    rows = [(row["index"], row["input"], row["truth"], row["a"], row["b"]) for row in found["examples"][:SHOWN]]
    if rows:
        _rows([("sample", "input", "true", "A", "B"), *rows])
    if found["picture"]:
        show(f"  picture  {found['picture']}")


def _heading(name: str) -> None:
    show(f"\n{name}")


def _table(name: str, rows: list[tuple[Any, ...]], head: tuple[str, ...] = ("", "A", "B")) -> None:
    _heading(name)
    if rows:
        _rows([head, *rows])
    else:
        show("  no difference")


def _rows(rows: list[tuple[Any, ...]]) -> None:
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        show("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    text = (
        "-" if value is None else f"{value:.6g}" if isinstance(value, float) else visible(" ".join(str(value).split()))
    )
    return text if len(text) <= WIDEST else text[: WIDEST - 3] + "..."
