"""Names and texts in the form in which MLflow and Optuna store them. Standard library only.

User code names metrics and parameters as it likes, and exceptions say anything. What MLflow refuses (letters, paths
that resolve to others, lengths) and what no database stores (lone surrogates, NUL) is replaced here, once for all, so
that no name and no text ends a study. The functions are total, deterministic and idempotent.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

NAME_LENGTH = 250  # MLflow's limits, in characters: of a metric's, parameter's or tag's name
PARAM_LENGTH = 6000  # of a parameter's value
TAG_LENGTH = 8000  # of a run's tag
EXPERIMENT_TAG_LENGTH = 20_000  # of an experiment's tag
TEXT_LENGTH = 1_000_000  # ours, of a text that is stored as a file: MLflow's UI opens no more
_DIGEST = 12  # hexadecimal digits that keep two long names apart

_REFUSED = re.compile(r"[^\w\-. :/]")


def metric_name(name: str) -> str:
    """A metric's name as MLflow takes it: "val/hits@1" -> "val/hits_1", "a//b" -> "a/_/b", "../up" -> "__/up".

    Two names become one only if they differ in refused characters alone.
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
    """A part of a name between slashes: as a folder's name, it must not mean another folder."""
    return {"": "_", ".": "_", "..": "__"}.get(part, part)


param_key = metric_name  # MLflow has the same rule for the names of parameters and tags
tag_key = metric_name


def cleaned_names(names: Iterable[str]) -> dict[str, str]:
    """Those of some names that are stored under another: name -> stored name."""
    return {name: stored for name in names if (stored := metric_name(name)) != name}


def colliding_names(names: Iterable[str]) -> dict[str, list[str]]:
    """Those stored names that several different names share: stored name -> the names."""
    stored: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        stored.setdefault(metric_name(name), []).append(name)
    return {name: them for name, them in stored.items() if len(them) > 1}


def registered_name(name: str) -> str:
    """A registered model's name as MLflow takes it and as models:/NAME@ALIAS can say it."""
    return metric_name(re.sub(r"[/:@]", "_", name)).strip() or "_"


def stored_text(text: str, limit: int = TEXT_LENGTH) -> str:
    """A text that every database and file takes, cut at a limit: lone surrogates and NUL are shown as escapes."""
    text = text[:limit]  # what comes later is cut anyway, however long it is
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")[:limit]


def param_text(value: Any) -> str:
    """A parameter's value as MLflow stores it: text as it is, everything else as JSON, cut at MLflow's limit.

    The order of a mapping's keys says nothing, so they are sorted.
    """
    return stored_text(value if isinstance(value, str) else _as_json(value), PARAM_LENGTH)


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True, default=str)
    except (TypeError, ValueError):  # keys of several types, which have no order; something that contains itself
        try:
            return json.dumps(value, default=str)
        except (TypeError, ValueError):
            return str(value)


def same_param(one: str, other: str) -> bool:
    """Whether two stored values of a parameter mean the same: 10 and 10.0, or one mapping in another order."""
    if one == other:
        return True
    try:
        return _canonical(json.loads(one)) == _canonical(json.loads(other))
    except (ValueError, RecursionError):
        return False


def _canonical(value: Any) -> Any:
    """A value of JSON in which true is not 1, NaN is NaN, and nothing else differs from what == says."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, bool) or (isinstance(value, float) and math.isnan(value)):
        return (type(value).__name__, str(value))
    return value


def stored_params(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as MLflow takes them; where two names become one, the later gets a suffix made of its own."""
    stored: dict[str, str] = {}
    for name, value in params.items():
        key = param_key(str(name))
        if key in stored:
            digest = hashlib.sha256(str(name).encode(errors="backslashreplace")).hexdigest()[:_DIGEST]
            key = param_key(f"{key[: NAME_LENGTH - _DIGEST - 1]}_{digest}")
        stored[key] = param_text(value)
    return stored


def stored_tags(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags as MLflow takes them."""
    return {tag_key(str(name)): stored_text(str(value), TAG_LENGTH) for name, value in tags.items()}


def stored_number(value: Any) -> float | None:
    """A metric's value as a number, or None for what is none: an older log may hold anything."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
