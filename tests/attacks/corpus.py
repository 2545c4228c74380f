"""Hostile and broken files, as somebody might hand them on: 100 and more, by the kind of file. CANARY would be made if
one of them were executed."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CANARY = Path(os.environ.get("TMPDIR", "/tmp")) / f"harness-canary-{os.getpid()}"
TOUCH = f"touch {CANARY}"
DEEP = 100_000  # levels of nesting


class Touch:
    """Unpickling it makes the canary."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (TOUCH,)


GOOD = """
model: {class_path: toy.Toy, init_args: {learning_rate: 0.1}}
data: {class_path: toy.ToyData}
trainer: {max_epochs: 1}
"""
LAUGHS = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
MERGES = "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12))

# Experiment files: `harness train FILE` refuses each in one line that names it.
EXPERIMENTS: dict[str, str | bytes] = {
    "aliases-of-aliases": "a0: &a0 [x, x]\n" + LAUGHS + GOOD,
    "merges-of-merges": "a0: &a0 {x: 1}\n" + MERGES + GOOD,
    "aliases-in-the-model": "model: {class_path: toy.Toy, init_args: {x: [&a0 [1, 1], "
    + ", ".join(f"&a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))
    + "]}}",
    "an-anchor-in-itself": "model: &a {class_path: toy.Toy, init_args: {x: *a}}",
    "a-list-in-itself": "model: &a [*a]",
    "deep-lists": "model: " + "[" * DEEP,
    "deep-closed-lists": "model: " + "[" * DEEP + "]" * DEEP,
    "deep-mappings": "model: " + "{a: " * DEEP + "1" + "}" * DEEP,
    "deep-blocks": "".join(" " * n + "a:\n" for n in range(3000)),
    "deep-sequences": "model:\n  " + "- " * DEEP + "1",
    "a-thousand-levels": "model: " + "[" * 1000 + "]" * 1000,
    "python-object": f"model: !!python/object/apply:os.system ['{TOUCH}']",
    "python-object-new": f"model: !!python/object/new:os.system ['{TOUCH}']",
    "python-module": "model: !!python/module:os",
    "python-name": "model: !!python/name:os.system ''",
    "python-tuple-key": "? !!python/tuple [1, 2]\n: 3",
    "a-key-that-is-a-list": "? [1, 2]\n: 3",
    "a-key-that-is-a-mapping": "? {1: 2}\n: 3",
    "a-key-twice": GOOD + "\nmodel: {class_path: toy.Toy}",
    "binary": "model: !!binary aGVsbG8=",
    "wrong-binary": "model: !!binary '####'",
    "set": "model: !!set {a, b}",
    "ordered-mapping": "model: !!omap [a: 1]",
    "a-number-of-5000-digits": "seed: " + "9" * 5000 + GOOD,
    "a-huge-exponent": GOOD + "seed: 1e999999999",
    "sexagesimal-bomb": "seed: " + ":".join(["59"] * 50_000) + GOOD,
    "two-documents": GOOD + "---" + GOOD,
    "a-directive": "%YAML 9.9\n---\n" + GOOD,
    "an-unknown-tag": "model: !x 1",
    "an-undefined-alias": "model: *x",
    "tabs": "model:\n\tclass_path: toy.Toy",
    "nul": b"model: \0",
    "not-utf-8": b"model: \xff\xfe\xfa",
    "utf-16": GOOD.encode("utf-16"),
    "control-characters": b"model: \x1b[2J\x07",
    "a-scalar": "42",
    "a-list": "[1, 2]",
    "empty": "",
    "only-a-comment": "# nothing",
    "os-system": f"model: {{class_path: os.system, init_args: {{command: '{TOUCH}'}}}}",
    "a-function": "model: {class_path: subprocess.getoutput}",
    "builtins-exec": "model: {class_path: builtins.exec}",
    "a-module": "model: {class_path: os}",
    "a-class-path-of-dots": "model: {class_path: ...}",
    "a-class-path-of-a-megabyte": "model: {class_path: " + "a." * 500_000 + "b}",
    "a-class-path-with-a-path": "model: {class_path: /etc/passwd}",
    "init-args-is-a-list": "model: {class_path: toy.Toy, init_args: [1]}",
    "a-search-without-end": GOOD + "search: {metric: m, space: {model.learning_rate: {low: 0, high: .inf}}}",
    "a-search-of-nan": GOOD + "search: {metric: m, space: {model.learning_rate: {low: .nan, high: 1}}}",
    "a-hundred-thousand-keys": "".join(f"k{n}: 1\n" for n in range(60_000)),
}

SPEC = {"run_id": "RUN", "experiment": {"model": {"class_path": "toy.Toy"}, "trainer": {}}, "seed": 0, "folder": "."}


def spec(**fields: Any) -> bytes:
    return json.dumps({**SPEC, **fields}).encode()


# spec.json of a trial: the doctor names each, and moves it aside.
SPECIFICATIONS: dict[str, bytes] = {
    "empty": b"",
    "nul": b"\0" * 100,
    "not-utf-8": b'{"run_id": "\xff"}',
    "cut": spec()[:40],
    "a-list": b"[]",
    "a-number": b"1e400",
    "null": b"null",
    "deep-lists": b"[" * DEEP,
    "deep-mappings": b'{"experiment":' + b'{"a":' * DEEP,
    "deep-in-the-experiment": spec()[:-1] + b', "params": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "a-run-id-that-is-a-path": spec(run_id="../../outside"),
    "an-absolute-run-id": spec(run_id="/etc"),
    "an-empty-run-id": spec(run_id=""),
    "a-run-id-of-another-kind": spec(run_id=["x"]),
    "no-experiment": json.dumps({"run_id": "x", "seed": 0, "folder": "."}).encode(),
    "an-experiment-that-is-text": spec(experiment="x"),
    "a-seed-that-is-text": spec(seed="0"),
    "another-field": spec(another=1),
    "a-search-path-of-numbers": spec(search_path=[1]),
    "items-of-another-kind": spec(experiment={"\0items": 5}),
    "items-that-are-no-pairs": spec(experiment={"\0items": [[1]]}),
    "a-key-that-is-a-list": spec(experiment={"\0items": [[[1], 2]]}),
    "a-folder-with-nul": spec(folder="a\0b", search_path=["a\0b"]),
    "a-number-of-5000-digits": b'{"seed": ' + b"9" * 5000 + b"}",
}


def event(kind: str, **fields: Any) -> bytes:
    return json.dumps({"kind": kind, "time": 1.0, **fields}).encode()


# Lines of events.jsonl: the doctor names the file, and keeps the lines that can be read.
EVENTS: dict[str, bytes] = {
    "nul": b"\0" * 100,
    "not-utf-8": b'{"kind": "notice", "text": "\xff"}',
    "a-list": b"[]",
    "deep-lists": b"[" * DEEP,
    "deep-values": b'{"kind": "metrics", "step": 1, "epoch": 0, "values": ' + b'{"a": ' * DEEP,
    "an-unknown-kind": event("exec", command=TOUCH),
    "a-kind-that-is-a-list": event("metrics")[:-1] + b', "kind": [1]}',
    "values-that-are-a-list": event("metrics", step=1, epoch=0, values=[1]),
    "a-value-that-is-text": event("metrics", step=1, epoch=0, values={"a": "x"}),
    "a-value-that-is-a-mapping": event("metrics", step=1, epoch=0, values={"a": {}}),
    "a-step-that-is-text": event("metrics", step="x", epoch=0, values={}),
    "a-step-without-end": event("metrics", step=10**30, epoch=0, values={}),
    "a-step-that-is-infinite": b'{"kind": "report", "step": Infinity, "epoch": 0, "value": 1, "time": 1}',
    "a-time-that-is-infinite": b'{"kind": "report", "step": 1, "epoch": 0, "value": 1, "time": 1e999}',
    "a-time-before-time": event("report", step=1, epoch=0, value=1)[:-1] + b', "time": -1}',
    "a-value-of-400-digits": event("report", step=1, epoch=0, value=10**400),
    "a-number-of-5000-digits": b'{"kind": "report", "step": ' + b"9" * 5000 + b"}",
    "a-finish-without-summary": event("finished", summary=None),
    "a-summary-of-texts": event("finished", summary={"best/a": "x"}),
    "an-error-that-is-a-list": event("failed", error=[], traceback=[]),
    "params-that-are-numbers": event("params", values={"a": 1}),
    "a-start-with-a-pid-of-text": event("started", pid="x", host="h", device="d", versions={}),
}


def zipped(parts: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as file:
        for name, content in parts.items():
            file.writestr(f"archive/{name}", content)
    return made.getvalue()


def saved(content: Any) -> bytes:
    made = io.BytesIO()
    torch.save(content, made)
    return made.getvalue()


VERSION = {"version": b"3\n", "byteorder": b"little"}
# best.ckpt: `harness predict` refuses each in one line that names it.
CHECKPOINTS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"hello " * 100,
    "a-pickle": lambda: pickle.dumps(Touch()),
    "a-pickle-in-a-zip": lambda: zipped({"data.pkl": pickle.dumps(Touch()), **VERSION}),
    "an-object-among-weights": lambda: saved({"state_dict": {"weight": torch.zeros(1)}, "extra": Touch()}),
    "an-object-as-state": lambda: saved({"state_dict": Touch()}),
    "a-zip-bomb": lambda: zipped({"data.pkl": b"\0" * 300_000_000, **VERSION}, zipfile.ZIP_DEFLATED),
    "an-empty-zip": lambda: zipped({}),
    "a-zip-of-paths": lambda: zipped({"../../outside/evil": b"x", "data.pkl": pickle.dumps({}), **VERSION}),
    "cut": lambda: saved({"state_dict": {"weight": torch.zeros(1000)}})[:900],
    "a-list": lambda: saved([1, 2]),
    "no-state": lambda: saved({"x": 1}),
    "state-that-is-a-list": lambda: saved({"state_dict": [torch.zeros(1)]}),
    "names-that-are-numbers": lambda: saved({"state_dict": {1: torch.zeros(1)}}),
    "other-weights": lambda: saved({"state_dict": {"weight": torch.zeros(1)}}),
    "a-deep-pickle": lambda: zipped({"data.pkl": b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + b".", **VERSION}),
}


def pipe(path: Path) -> None:
    os.mkfifo(path)


def zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def itself(path: Path) -> None:
    path.symlink_to(path.name)


def outside(path: Path) -> None:
    trials = next(parent for parent in path.parents if parent.name == "trials")
    path.symlink_to(trials.parents[1] / "outside" / "secret")


# What stands in the place of a file. The doctor names what is no file, and reads and writes nothing through it.
PLACES = ("spec.json", "events.jsonl", "artifacts/log.txt", "checkpoints/best.ckpt")
THINGS: dict[str, Callable[[Path], None]] = {
    f"{thing.__name__}-{place}": lambda path, thing=thing: thing(path)  # type: ignore[misc]
    for thing in (pipe, zero, folder, itself, outside)
    for place in PLACES
}

DEEP_JSON = "[" * DEEP
# Tags of a run, as anybody may write them to the database.
TAGS: dict[str, tuple[str, str]] = {
    "a-driver-that-is-a-path": ("harness.driver", f"{os.uname().nodename} ../../tmp 1"),
    "a-driver-without-end": ("harness.driver", "x " * 4000),
    "a-driver-of-a-huge-pid": ("harness.driver", f"{os.uname().nodename} {'9' * 400} 1"),
    "an-empty-driver": ("harness.driver", ""),
    "lost-files-that-are-deep": ("harness.lost", DEEP_JSON[:8000]),
    "lost-files-that-are-numbers": ("harness.lost", "[1, {}]"),
    "a-trial-that-is-text": ("harness.trial", "../x"),
    "a-study-of-control-characters": ("harness.study", "\x1b[2J"),
    "a-rank-that-is-text": ("harness.rank", "first"),
    "a-parent-that-is-no-run": ("mlflow.parentRunId", "../../x"),
}
# Attributes of an Optuna study, as JSON: the doctor names the study, and goes on with the others.
STUDIES: dict[str, tuple[str, str]] = {
    "a-definition-that-is-a-number": ("harness.definition", "1"),
    "a-definition-without-space": ("harness.definition", '{"direction": "maximize", "seed": 0}'),
    "a-space-that-calls": ("harness.definition", json.dumps({"space": "os:system", "direction": "up", "seed": 0})),
    "a-space-of-nan": ("harness.definition", '{"space": {"a": {"low": NaN, "high": 1}}, "direction": "maximize"}'),
    "an-extension-that-is-text": ("harness.extended.0", '"x"'),
    "an-extension-of-another-state": (
        "harness.extended.0",
        '{"epochs": 1, "done": true, "state": "x", "value": "y"}',
    ),
    "a-run-that-is-a-list": ("harness.run_id.0", "[1]"),
}
# Those with which Optuna cannot read any study of the database: the doctor keeps it under another name.
DATABASES: dict[str, tuple[str, str]] = {
    "a-definition-that-is-deep": ("harness.definition", DEEP_JSON),
    "a-definition-that-is-no-json": ("harness.definition", "{"),
}
NUMBER = len([*DATABASES, *EXPERIMENTS, *SPECIFICATIONS, *EVENTS, *CHECKPOINTS, *THINGS, *TAGS, *STUDIES])
