"""A spec.json that somebody edited, cut short or made up is a ValueError that names the file, and nothing else."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studies.protocol.spec_fields import KINDS
from studies.protocol.trial_spec import TrialSpec

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def saved(folder: Path, /, **changes: Any) -> Path:
    path = TrialSpec("r", {"model": {"class_path": "a.B"}}, 0, str(folder), search_path=["here"]).save()
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path


def load(path: Path) -> TrialSpec | None:
    """The specification, or None where it is refused as it should be."""
    try:
        spec = TrialSpec.load(path)
    except ValueError as error:
        assert str(error).startswith(f"{path} is not the specification of a trial: ") and "\n" not in str(error)
        return None
    for name, kinds in KINDS.items():
        assert isinstance(getattr(spec, name), kinds)
    return spec


def test_every_field_has_a_kind() -> None:
    assert list(KINDS) == [field.name for field in fields(TrialSpec)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from([*KINDS, "another"]), value=JSON)
def test_a_field_of_any_other_kind(tmp_path: Path, name: str, value: Any) -> None:
    spec = load(saved(tmp_path, **{name: value}))
    assert name != "another" or spec is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=JSON)
def test_any_json_at_all(tmp_path: Path, value: Any) -> None:
    (tmp_path / "spec.json").write_text(json.dumps(value))
    assert load(tmp_path / "spec.json") is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 300), flip=st.integers(1, 255))
def test_a_torn_or_altered_file(tmp_path: Path, cut: int, flip: int) -> None:
    path = saved(tmp_path)
    text = bytearray(path.read_bytes())
    text[cut % len(text)] ^= flip
    path.write_bytes(text)
    load(path)
    path.write_bytes(text[: cut % len(text)])
    assert load(path) is None


@pytest.mark.parametrize("text", ["[" * 100_000, '{"experiment": ' + '{"a": ' * 100_000, "", "\0", '{"run_id": 1}'])
def test_deep_and_empty_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "spec.json").write_text(text)
    assert load(tmp_path / "spec.json") is None


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text('{"run_id": "r"}')
    with pytest.raises(ValueError, match="it has no 'experiment'"):
        TrialSpec.load(tmp_path / "spec.json")
