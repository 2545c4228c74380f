"""Converts names and texts to forms that MLflow and Optuna can store. Standard library only.

User code may choose any names for metrics and parameters, and exceptions may have any text. What MLflow rejects
(characters, relative paths, lengths) and what databases cannot store (lone surrogates, NUL) is replaced here, so that
no name or text can end a study. The functions are total, deterministic and idempotent.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from studies.common.redaction import redacted

NAME_LENGTH = 250  # MLflow's limits, in characters: name of a metric, parameter or tag
PARAM_LENGTH = 6000  # value of a parameter
TAG_LENGTH = 8000  # value of a run's tag
EXPERIMENT_TAG_LENGTH = 20_000  # value of an experiment's tag
TEXT_LENGTH = 1_000_000  # our limit for text files: MLflow's UI does not open larger ones
_DIGEST = 12  # hexadecimal digits that distinguish truncated names

_REFUSED = re.compile(r"[^\w\-. :/]")


def metric_name(name: str) -> str:
    """A metric's name as MLflow accepts it: "val/hits@1" -> "val/hits_1", "a//b" -> "a/_/b", "../up" -> "__/up".

    Two names collide only if they differ only in rejected characters.
    """
    parts = [_part(part) for part in _REFUSED.sub("_", name).split("/")]
    if parts[0].startswith(".."):
        parts[0] = "__" + parts[0][2:]
    cleaned = "/".join(parts)
    if len(cleaned) <= NAME_LENGTH:
        return cleaned
    digest = hashlib.sha256(name.encode(errors="backslashreplace")).hexdigest()[:_DIGEST]
    return f"{cleaned[: NAME_LENGTH - _DIGEST - 1]}_{digest}"


def _part(part: str) -> str:
    """Cleans one path component of a name, which must not refer to another folder."""
    return {"": "_", ".": "_", "..": "__"}.get(part, part)


param_key = metric_name  # MLflow has the same rule for parameter and tag names
tag_key = metric_name


def cleaned_names(names: Iterable[str]) -> dict[str, str]:
    """The names that are stored under a different name: name -> stored name."""
    return {name: stored for name in names if (stored := metric_name(name)) != name}


def colliding_names(names: Iterable[str]) -> dict[str, list[str]]:
    """The stored names shared by several names: stored name -> names."""
    stored: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        stored.setdefault(metric_name(name), []).append(name)
    return {name: them for name, them in stored.items() if len(them) > 1}


def registered_name(name: str) -> str:
    """A registered model's name in a form that MLflow and models:/NAME@ALIAS accept."""
    return metric_name(re.sub(r"[/:@]", "_", name)).strip() or "_"


def stored_text(text: str, limit: int = TEXT_LENGTH) -> str:
    """Makes a text storable in any database or file: secrets hidden, truncated, lone surrogates and NUL as escapes."""
    text = redacted(text[: limit + 1000])[:limit]  # the rest is cut anyway
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")[:limit]


def param_text(value: Any) -> str:
    """A parameter's value as MLflow stores it: text unchanged, everything else as JSON, truncated to MLflow's limit.

    The order of a mapping's keys has no meaning, so they are sorted.
    """
    return stored_text(value if isinstance(value, str) else _as_json(value), PARAM_LENGTH)


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True, default=str)
    except (TypeError, ValueError):  # keys of mixed types cannot be sorted; or the value contains itself
        try:
            return json.dumps(value, default=str)
        except (TypeError, ValueError):
            return str(value)


def same_param(one: str, other: str) -> bool:
    """Whether two stored parameter values are equivalent: 10 and 10.0, or mappings in different order."""
    if one == other:
        return True
    try:
        return _canonical(json.loads(one)) == _canonical(json.loads(other))
    except (ValueError, RecursionError):
        return False


def _canonical(value: Any) -> Any:
    """A JSON value for comparison: like ==, but true differs from 1, and NaN equals NaN."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, bool) or (isinstance(value, float) and math.isnan(value)):
        return (type(value).__name__, str(value))
    return value


def stored_params(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters in a form that MLflow accepts; if two names collide, the later gets a digest of its name as suffix."""
    stored: dict[str, str] = {}
    for name, value in params.items():
        key = param_key(str(name))
        if key in stored:
            digest = hashlib.sha256(str(name).encode(errors="backslashreplace")).hexdigest()[:_DIGEST]
            key = param_key(f"{key[: NAME_LENGTH - _DIGEST - 1]}_{digest}")
        stored[key] = param_text(value)
    return stored


def stored_tags(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags in a form that MLflow accepts."""
    return {tag_key(str(name)): stored_text(str(value), TAG_LENGTH) for name, value in tags.items()}


def short_number(value: float) -> float:
    """The number of fewest digits that is the same 32-bit float; a number that is no 32-bit float as it is.

    Losses and accuracies are 32-bit floats: 0.96 is 0.9599999785423279 as a Python float, and MLflow shows all digits.
    """
    try:
        exact = struct.pack("f", value)
    except (struct.error, OverflowError):
        return value
    if struct.unpack("f", exact)[0] != value:
        return value
    return next(
        (short for digits in range(1, 10) if struct.pack("f", short := float(f"{value:.{digits}g}")) == exact), value
    )


def stored_number(value: Any) -> float | None:
    """A metric's value as a number, or None if it is not one: older logs may hold anything."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
