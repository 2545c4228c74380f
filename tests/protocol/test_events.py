import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studies.common.errors import disk_is_full
from studies.common.objective import better
from studies.common.out_of_memory import is_out_of_memory
from studies.common.text import clean_json, clean_text, error_text
from studies.protocol.events import EVENTS, Failed, Metrics, parse_event
from studies.protocol.trial_spec import TrialSpec

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def test_a_spec_round_trips(tmp_path: Path) -> None:
    experiment = {"model": {"class_path": "a.B", "init_args": {"hidden_sizes": [1, 2], "learning_rate": 1e-3}}}
    spec = TrialSpec("r", experiment, 3, str(tmp_path / "r"), number=4, params={"model.learning_rate": 1e-3}, gpu=1)
    assert TrialSpec.load(spec.save()) == spec


@given(
    step=st.integers(0, 10**9),
    values=st.dictionaries(NAMES, st.floats(allow_nan=False), max_size=4),
    stamp=st.floats(0, 2e9),
)
@settings(deadline=None, max_examples=50)
def test_an_event_round_trips(step: int, values: dict[str, float], stamp: float) -> None:
    event = Metrics(step, 2, values, time=stamp)
    line = event.to_json()
    assert "\n" not in line
    assert parse_event(line) == event


def test_nan_and_infinity_round_trip() -> None:
    values = parse_event(Metrics(1, 0, {"a": float("nan"), "b": float("inf")}).to_json()).values  # type: ignore[attr-defined]
    assert values["a"] != values["a"] and values["b"] == float("inf")


def test_a_traceback_stays_on_one_line() -> None:
    event = Failed("E: x", "line 1\nline 2\u2028\r\n")
    assert len(event.to_json().encode().splitlines()) == 1
    assert parse_event(event.to_json()) == event


@pytest.mark.parametrize("line", ["", "{", "[]", "null", "{}", '{"kind":"no"}', '{"kind":"metrics"}', "\x00"])
def test_an_invalid_event_is_a_value_error(line: str) -> None:
    with pytest.raises(ValueError):
        parse_event(line)


def test_every_kind_has_its_own_name() -> None:
    assert len(EVENTS) == 14
    assert all(cls.kind == kind for kind, cls in EVENTS.items())


def test_better_knows_direction_and_nan() -> None:
    assert better(1.0, None, "maximize") and better(2.0, 1.0, "maximize") and not better(2.0, 1.0, "minimize")
    assert not better(float("nan"), None, "maximize") and not better(1.0, 1.0, "minimize")


@pytest.mark.parametrize(
    ("text", "clean"),
    [("ordinary, naïve, 😀", "ordinary, naïve, 😀"), ("b\udce4r", r"b\udce4r"), ("a\0b", r"a\x00b")],
)
def test_a_clean_text_can_be_written_anywhere(text: str, clean: str) -> None:
    assert clean_text(text) == clean
    event = Metrics(1, 0, {text: 1.0})
    assert parse_event(event.to_json()) == Metrics(1, 0, {clean: 1.0}, time=event.time)
    assert json.loads(clean_json([{text: (text,)}])) == [{clean: [clean]}]


def test_of_a_long_text_both_ends_are_kept() -> None:
    text = "a" * 1000 + "b" * 1000
    assert clean_text(text, 10) == "aaaaa [... 1990 characters omitted ...] bbbbb"
    assert clean_text(text, 2000) == text


class SpeechlessError(Exception):
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no"), "ValueError: no"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (SystemExit("b\udce4r"), r"the trial called sys.exit('b\udce4r')"),
        (SpeechlessError(), "SpeechlessError: (no message: __str__ raised ValueError)"),
    ],
)
def test_every_error_has_a_text(error: BaseException, text: str) -> None:
    assert error_text(error) == text
    assert not disk_is_full(error) and not is_out_of_memory(error)
