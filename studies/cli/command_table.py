"""Which function answers each command."""

from __future__ import annotations

from studies.cli import (
    comparing,
    completion,
    confirming,
    deleting,
    differing,
    forecasting,
    inspecting,
    listing,
    prune_lab,
    replaying,
    reporting,
    schema,
    searching,
    training,
    tuning,
    watching,
)
from studies.cli.agents import command

# name -> function of the parsed options, the overrides and the arguments as given, which returns the exit status
COMMANDS = {
    "list": inspecting.list_experiments,
    "describe": inspecting.describe,
    "train": training.train,
    "resume": training.resume,
    "study": searching.study,
    "extend": searching.extend,
    "confirm": confirming.confirm,
    "watch": watching.watch,
    "runs": listing.runs,
    "compare": comparing.compare,
    "diff": differing.diff,
    "report": reporting.report,
    "replay": replaying.replay,
    "predict": inspecting.predict,
    "export": inspecting.export,
    "demo": inspecting.demo,
    "doctor": inspecting.doctor,
    "ui": inspecting.ui,
    "delete": deleting.delete,
    "gc": deleting.gc,
    "schema": schema.schema,
    "mcp": command.mcp,
    "completion": completion.completion,
    "lr": tuning.lr,
    "batch-size": tuning.batch_size,
    "forecast": forecasting.forecast,
    "prune-lab": prune_lab.prune_lab,
}
