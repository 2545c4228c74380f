"""The tools of `harness mcp`: each is a command of harness, with its options as arguments. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from studies.cli.bad_input import BadInput
from studies.cli.parser import OVERRIDE
from studies.common.suggestions import did_you_mean

Schema = dict[str, Any]
KINDS = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}  # JSON Schema's types -> Python's


def _of(kind: str, description: str, **more: Any) -> Schema:
    return {"type": kind, "description": description, **more}


@dataclass(frozen=True)
class Tool:
    """A tool.

    Attributes:
        command: the command of harness that it runs; "" for what only concerns jobs.
        answer: the command whose schema describes the answer.
        positional: arguments without an option's name, in order.
        defaults: values that are given if the agent gives none.
        trains: whether it starts or stops work, which needs --allow-training.
    """

    name: str
    description: str
    command: str
    answer: str
    arguments: Mapping[str, Schema] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    positional: tuple[str, ...] = ()
    trains: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_schema(self) -> Schema:
        properties = dict(self.arguments)
        required = list(self.required)
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


EXPERIMENT = _of("string", "name of an experiment, as list_experiments shows it, or path of a .yaml file")
RUN = "run id or a prefix of it, latest, best:STUDY, or STUDY/NUMBER for a trial"
JOB = _of("string", "id of a job, as train, study and jobs say")
WORK: dict[str, Schema] = {
    "overrides": _of(
        "object",
        'parameters to change, by the dotted names of describe_experiment: {"model.learning_rate": 0.01, '
        '"trainer.max_epochs": 3}',
    ),
    "seed": _of("integer", "seed of the training, or of the study", minimum=0),
    "name": _of("string", "name of the run in MLflow"),
    "tags": _of("object", "tags of the run in MLflow", additionalProperties={"type": "string"}),
    "note": _of("string", "description of the run in MLflow, in Markdown"),
    "threads": _of("integer", "CPU threads per trial", minimum=1),
    "test": _of("boolean", "whether to evaluate on the test set at the end (default: true)"),
}
TOOLS = (
    Tool("list_experiments", "The experiments that come with the harness.", "list", "list"),
    Tool(
        "describe_experiment",
        "An experiment's search space and all its parameters, with types, defaults and docstrings. Takes seconds.",
        "describe",
        "describe",
        {"experiment": EXPERIMENT},
        ("experiment",),
        ("experiment",),
    ),
    Tool(
        "runs",
        "Runs of trainings, studies and trials with their parameters and metrics, newest first.",
        "runs",
        "runs",
        {
            "experiment": _of("string", "only runs of this experiment"),
            "study": _of("string", "only runs of this study"),
            "where": _of("string", "only these, in the language of MLflow's search: metrics.`val/accuracy` > 0.98"),
            "sort": _of("string", "in this order, in the same language: metrics.`val/accuracy` DESC"),
            "limit": _of("integer", "maximum number of runs (default: 20)", minimum=1),
        },
        defaults={"limit": 20},  # an agent reads every word
    ),
    Tool(
        "compare",
        "Several runs with all their parameters and metrics.",
        "compare",
        "runs",
        {"runs": _of("array", f"each a {RUN}", items={"type": "string"}, minItems=1)},
        ("runs",),
        ("runs",),
    ),
    Tool("jobs", "What train and study have started for this state folder, newest first.", "", "jobs"),
    Tool(
        "status",
        "State of a job, its latest progress and, once it has ended, its answer.",
        "",
        "job",
        {"job": JOB},
        ("job",),
    ),
    Tool(
        "train",
        "Starts a training run in the background; poll the job with status. Its test metrics come from the best "
        "checkpoint.",
        "train",
        "job",
        {"experiment": EXPERIMENT, **WORK},
        ("experiment",),
        ("experiment",),
        trains=True,
    ),
    Tool(
        "study",
        "Starts a hyperparameter search in the background; poll the job with status, or its trials with runs. The same "
        "call again resumes the study.",
        "study",
        "job",
        {
            "experiment": EXPERIMENT,
            "trials": _of("integer", "total number of trials in the study", minimum=1),
            "timeout": _of("number", "stop after so many seconds; the same call resumes", exclusiveMinimum=0),
            "workers": _of("integer", "trials to run at once (default: 1)", minimum=1),
            "study_name": _of("string", "name of the study (default: the experiment's)"),
            "sampler": _of("string", "random, grid, tpe, gp, cmaes or nsga2"),
            "pruner": _of("string", "none, median, hyperband or asha"),
            **WORK,
        },
        ("experiment", "trials", "timeout"),
        ("experiment",),
        trains=True,
    ),
    Tool(
        "stop",
        "Interrupts a job as Ctrl-C does: what it has done is kept, and it can be resumed.",
        "",
        "job",
        {"job": JOB},
        ("job",),
        trains=True,
    ),
)


def find_tool(name: str, training: bool) -> Tool:
    """The tool of this name.

    Raises:
        BadInput: there is none, or it needs --allow-training.
    """
    tool = next((tool for tool in TOOLS if tool.name == name), None)
    if tool is None:
        raise BadInput(f"unknown tool {name}{did_you_mean(name, [tool.name for tool in TOOLS])}")
    if tool.trains and not training:
        raise BadInput(f"{name} is not allowed: this server only reads; `harness mcp --allow-training` starts work")
    return tool


def checked(tool: Tool, arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments that were given, null left out, and defaults.

    Raises:
        BadInput: one is unknown, missing or of another type.
    """
    given = {**tool.defaults, **{name: value for name, value in (arguments or {}).items() if value is not None}}
    for name, value in given.items():
        if name not in tool.arguments:
            raise BadInput(f"unknown argument {name} of {tool.name}{did_you_mean(name, list(tool.arguments))}")
        _check_kind(name, value, tool.arguments[name])
    for name in tool.required:
        if name not in given:
            raise BadInput(f"{tool.name} needs {name}: {tool.arguments[name]['description']}")
    return given


def _check_kind(name: str, value: Any, schema: Schema) -> None:
    kind = schema["type"]
    fits = isinstance(value, KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))
    if fits and "items" in schema:
        fits = all(isinstance(item, KINDS[schema["items"]["type"]]) for item in value)
    if not fits:
        inner = f" of {schema['items']['type']}s" if "items" in schema else ""
        raise BadInput(f"{name} must be of type {kind}{inner}, but got {name}={value!r:.80}")


def command_line(tool: Tool, given: Mapping[str, Any]) -> list[str]:
    """The arguments of `harness` for a call. A value never becomes an option: options are written --name=value.

    Raises:
        BadInput: a name begins with "-", or an override is of no section of an experiment.
    """
    return [tool.command, *_words(tool, given), "--json"]


def _words(tool: Tool, given: Mapping[str, Any]) -> Iterator[str]:
    for name in tool.positional:
        for text in given[name] if isinstance(given[name], list) else [given[name]]:
            if text.startswith("-") or not text:
                raise BadInput(f"{name} must be a name or a path, but got {name}={text!r}")
            yield text
    for name, value in given.items():
        if name in tool.positional:
            continue
        if name == "overrides":
            yield from (_override(key, item) for key, item in value.items())
        elif name == "tags":
            yield from (f"--tag={key}={item}" for key, item in value.items())
        elif name == "test":
            yield from () if value else ("--no-test",)
        else:
            yield f"--{name.replace('_', '-')}={value}"


def _override(name: str, value: Any) -> str:
    if "=" in name or not OVERRIDE.fullmatch(f"--{name}"):
        raise BadInput(
            f"overrides: {name} is no parameter of an experiment; names are those of describe_experiment, such as "
            "model.learning_rate, data.batch_size or trainer.max_epochs"
        )
    return f"--{name}={value if isinstance(value, str) else json.dumps(value)}"
