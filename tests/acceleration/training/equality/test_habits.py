"""Combinations of modules, optimizers, schedules, options, callbacks, data and changes: the accelerated loop's results
are bit-identical to those of Lightning's own loop."""

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from equality.changes import CHANGES, PLACES, Changes, changing, changing_data
from equality.comparison import Case, compare
from equality.data import KINDS, Data, SomeAreNone
from equality.models import HABITS, OPTIMIZERS, SCHEDULES, Net
from equality.surroundings import CALLBACKS, OPTIONS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytorch_lightning import Callback

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    yield
    torch.set_num_threads(threads)
    torch.set_grad_enabled(True)


def combinations(names: Iterable[Any], others: Sequence[Any], count: int = 1) -> list[Any]:
    """Each name with a number of others, in turns; all other combinations are in `make test-slow`."""
    found = []
    for index, name in enumerate(names):
        chosen = {(index + turn * (len(others) // 2)) % len(others) for turn in range(count)}
        for place, other in enumerate(others):
            labels = [getattr(item, "__name__", str(item)) for item in (name, other)]
            marks = [] if place in chosen else [pytest.mark.slow]
            found.append(pytest.param(name, other, id="-".join(labels), marks=marks))
    return found


WATCHED = ["unwatched", "watched"]


@pytest.mark.parametrize(("habit", "watched"), combinations(HABITS, WATCHED, 2))
def test_habits_of_modules(habit: type[Net], watched: str, tmp_path: Path) -> None:
    compare(Case(partial(habit, schedule="two"), is_watched=watched == "watched"), tmp_path)


@pytest.mark.parametrize(("optimizer", "schedule"), combinations(OPTIMIZERS, list(SCHEDULES), 2))
def test_optimizers_and_schedules(optimizer: str, schedule: str, tmp_path: Path) -> None:
    fast = compare(Case(partial(Net, optimizer=optimizer, schedule=schedule)), tmp_path)
    assert fast.plain_steps or fast.error


@pytest.mark.parametrize(("options", "watched"), combinations(OPTIONS, WATCHED))
def test_options_of_the_trainer(options: str, watched: str, tmp_path: Path) -> None:
    case = Case(partial(Net, schedule="two"), options=OPTIONS[options], is_watched=watched == "watched")
    compare(case, tmp_path)


@pytest.mark.parametrize("callbacks", CALLBACKS)
def test_callbacks(callbacks: str, tmp_path: Path) -> None:
    schedule = "none" if callbacks in ("accumulation", "finetuning") else "two"
    case = Case(partial(Net, schedule=schedule), callbacks=CALLBACKS[callbacks], options={"max_epochs": 4})
    compare(case, tmp_path)


@pytest.mark.parametrize(("kind", "watched"), combinations(KINDS, WATCHED))
def test_kinds_of_data(kind: type[Data], watched: str, tmp_path: Path) -> None:
    compare(Case(data=kind, is_watched=watched == "watched"), tmp_path)


@pytest.mark.parametrize(("change", "place"), combinations(CHANGES, PLACES, 2))
def test_changes_in_the_middle_of_an_epoch(change: str, place: str, tmp_path: Path) -> None:
    compare(changed(change, place), tmp_path)


def changed(change: str, place: str, **arguments: Any) -> Case:
    module, data, callbacks = partial(changing, place, CHANGES[change], **arguments), Data, lambda: [Callback()]
    if place == "batch":
        data = partial(changing_data, CHANGES[change])  # type: ignore[assignment]
    elif place not in ("training_step", "hook"):
        callbacks = lambda: [Changes(place, CHANGES[change])]  # noqa: E731
    return Case(module, data, callbacks=callbacks)


@pytest.mark.parametrize("kind", [Data, SomeAreNone])
@pytest.mark.parametrize("optimizer", ["never_asks", "lbfgs", "ascends_twice"])
def test_optimizers_that_call_their_closure_otherwise(optimizer: str, kind: type[Data], tmp_path: Path) -> None:
    """An error of a fast step, too, leaves the loops as Lightning's would: the first batch may have been skipped."""
    compare(Case(partial(Net, optimizer=optimizer), kind, OPTIONS["max_steps"]), tmp_path)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    habit=st.sampled_from(HABITS),
    optimizer=st.sampled_from(list(OPTIMIZERS)),
    schedule=st.sampled_from(list(SCHEDULES)),
    options=st.sampled_from(list(OPTIONS)),
    callbacks=st.sampled_from(list(CALLBACKS)),
    kind=st.sampled_from(KINDS),
    is_watched=st.booleans(),
)
def test_what_is_drawn(
    habit: type[Net],
    optimizer: str,
    schedule: str,
    options: str,
    callbacks: str,
    kind: type[Data],
    is_watched: bool,
    tmp_path: Path,
) -> None:
    module = partial(habit, optimizer=optimizer, schedule=schedule)
    compare(Case(module, kind, OPTIONS[options], CALLBACKS[callbacks], is_watched), tmp_path)
