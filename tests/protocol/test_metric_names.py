"""Any names and texts become acceptable to MLflow."""

import math
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.utils.validation import _validate_metric_name, _validate_model_name

from studies.protocol.metric_names import (
    NAME_LENGTH,
    PARAM_LENGTH,
    TAG_LENGTH,
    cleaned_names,
    colliding_names,
    metric_name,
    param_text,
    registered_name,
    same_param,
    short_number,
    stored_number,
    stored_params,
    stored_tags,
    stored_text,
)

ANY_LETTER = st.characters(codec=None)  # including lone surrogates and NUL
PATHS = st.lists(st.sampled_from(["", ".", "..", "a", "val", "/", " ", "@", "\udce4"]), max_size=6)
NAMES = st.text(ANY_LETTER) | PATHS.map("/".join) | st.text("a/.", min_size=240, max_size=300)
ODD = ["", ".", "..", "/", "//", "../up", "/abs", "val//double", "val/./dot", "a/", "..b", "x" * 300, "val/[a]", "a\n"]
ODD += ["val/hits@1", "b\udce4r", "nul\0", "y" * 300]


@given(NAMES)
@settings(max_examples=400, deadline=None)
def test_every_name_becomes_one_that_mlflow_accepts(name: str) -> None:
    stored = metric_name(name)
    _validate_metric_name(stored)
    assert len(stored) <= NAME_LENGTH
    assert metric_name(stored) == stored
    _validate_model_name(registered_name(name))


def test_the_database_takes_them_all(home: Path) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{home}/mlflow.db")
    run_id = client.create_run(client.create_experiment("mine", artifact_location=home.as_uri())).info.run_id
    texts = {name: name * 50 for name in ODD}
    metrics = [Metric(metric_name(name), 1.0, 0, 0) for name in ODD]
    params = [Param(key, value) for key, value in stored_params(texts).items()]
    client.log_batch(run_id, metrics, params, [RunTag(key, value) for key, value in stored_tags(texts).items()])
    run = client.get_run(run_id)
    assert set(run.data.metrics) == {metric_name(name) for name in ODD}
    assert len(run.data.params) == len(ODD), "none takes another's place"


def test_changed_names_are_reported() -> None:
    assert cleaned_names(["val/loss", "val/hits@1", "val//a"]) == {"val/hits@1": "val/hits_1", "val//a": "val/_/a"}
    assert colliding_names(["a@b", "a#b", "c", "c"]) == {"a_b": ["a@b", "a#b"]}
    assert metric_name("x" * 300) != metric_name("x" * 301)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10", "10.0", True),
        ('{"a": 1, "b": [1, 2.0]}', '{"b": [1.0, 2], "a": 1}', True),
        ("NaN", "NaN", True),
        ("[NaN]", " [NaN]", True),
        ("adam", "adam", True),
        ("adam", "sgd", False),
        ("1", "true", False),
        ("[1, 2]", "[2, 1]", False),
    ],
)
def test_parameters_are_compared_by_value(one: str, other: str, same: bool) -> None:
    assert same_param(one, other) is same and same_param(other, one) is same


def test_parameters_as_text() -> None:
    assert param_text("adam") == "adam"
    assert param_text([1, 2]) == "[1, 2]"
    assert param_text(1e-3) == "0.001"
    assert param_text({"b": 1, "a": 2}) == '{"a": 2, "b": 1}'
    assert param_text({1: "a", "b": 2}) == '{"1": "a", "b": 2}', "keys without an order"
    assert param_text(Path("a")) == '"a"'
    assert param_text(math.inf) == "Infinity"
    assert len(param_text("x" * 9000)) == PARAM_LENGTH
    circular: list[object] = []
    circular.append(circular)
    assert param_text(circular) == "[[...]]"


@given(st.text(ANY_LETTER))
def test_a_text_can_be_stored(text: str) -> None:
    stored = stored_text(text)
    assert stored.encode() is not None and "\0" not in stored
    assert stored_text(stored) == stored


def test_truncation_is_idempotent() -> None:
    assert len(stored_tags({"a": "\udce4" * 20_000_000})["a"]) == TAG_LENGTH


def test_non_numbers_are_none() -> None:
    assert [stored_number(value) for value in (1, "2", None, "x", [1], 10**400)] == [1.0, 2.0, None, None, None, None]


@pytest.mark.parametrize(
    ("value", "short"),
    [
        (0.9599999785423279, 0.96),
        (0.10000000149011612, 0.1),
        (0.1, 0.1),  # no 32-bit float: as it is
        (1 / 3, 1 / 3),
        (16777217.0, 16777217.0),
        (-0.25, -0.25),
        (0.0, 0.0),
        (1e300, 1e300),
        (math.inf, math.inf),
    ],
)
def test_a_short_number_is_the_same_32_bit_float(value: float, short: float) -> None:
    assert short_number(value) == short


def test_not_a_number_stays_so() -> None:
    assert math.isnan(short_number(math.nan))


@given(st.floats(width=32, allow_nan=False))
def test_no_32_bit_float_is_changed_by_shortening(value: float) -> None:
    assert struct.pack("f", short_number(value)) == struct.pack("f", value)
