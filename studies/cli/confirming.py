"""`harness confirm`: checks the command line, calls the driver and prints the verdict."""

from __future__ import annotations

import argparse
import shutil
from typing import TYPE_CHECKING

from studies.cli import output
from studies.cli.bad_input import at_least
from studies.cli.notifying import notifying
from studies.cli.streams import show
from studies.cli.training import threads_of
from studies.console.tables import align

if TYPE_CHECKING:
    from studies.driver.session import Result


def confirm(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    at_least("top", options.top)
    at_least("seeds", options.seeds, 2)
    at_least("workers", options.workers)
    threads = threads_of(options)
    from studies.driver import confirm as driver
    from studies.driver.session import Options

    how = Options(
        argv,
        workers=options.workers,
        threads=threads,
        test=not options.no_test,
        storage=options.storage,
        trust=options.trust,
        quiet=options.quiet,
    )
    with notifying(options.notify, "confirm", options.study) as tell:
        tell(result := driver.confirm(options.study, options.top, options.seeds, options.baseline, how))
        return _confirmed(result, options.json)


def _confirmed(result: Result, as_json: bool) -> int:
    """Prints each configuration, the comparisons and the verdict; returns the exit status."""
    fields = result.fields
    if as_json:
        names = ("study", "run_id", "metric", "direction", "verdict", "winner", "configurations", "comparisons", "test")
        answer = {"status": result.status, **{name: fields[name] for name in names}}
        output.print_json({**answer, "wall_seconds": round(result.wall_seconds, 3)})
        return output.exit_status(result)
    for line in align(_table(fields), shutil.get_terminal_size((1_000_000, 24)).columns):
        show(line)
    show()
    for line in fields["verdicts"]:
        show(line)
    if fields["note"]:
        show(fields["note"])
    for name, summary in fields["test"].items():
        interval = "" if summary["low"] is None else f"  [{summary['low']:.6g}, {summary['high']:.6g}]"
        show(f"winner's {name} {summary['mean']:.6g}{interval}  ({summary['seeds']} seeds)")
    show(f"\nconfirm  {fields['study']}  {result.status} in {result.wall_seconds:.0f} s")
    again = "run the same command again to resume, or " if result.status == "interrupted" else ""
    show(f"next:  {again}{output.look_at(fields['page'])}")
    return output.exit_status(result)


def _table(fields: dict[str, object]) -> list[list[str]]:
    """Columns: what the search saw of each configuration, its mean on fresh seeds, and the difference: luck."""
    rows: list[list[str]] = [["configuration", "seeds", "search", "fresh seeds", "95% interval", "luck"]]
    for item in fields["configurations"]:  # type: ignore[attr-defined]
        summary, searched, luck = item["summary"], item["searched"], item["luck"]
        interval = summary is not None and summary["low"] is not None
        rows.append(
            [
                item["name"],
                str(len(item["values"])),
                "" if searched is None else f"{searched:.5g}",
                "" if summary is None else f"{summary['mean']:.5g}",
                f"{summary['low']:.5g} to {summary['high']:.5g}" if interval else "",
                "" if luck is None else f"{luck:+.2g}",
            ]
        )
    return [list(column) for column in zip(*rows, strict=True)]
