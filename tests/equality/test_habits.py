"""Combinations of modules, optimizers, schedules, options, callbacks, data and changes: fitted by the accelerated loop
they come to what they come to by Lightning's own, to the bit."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from equality.changes import CHANGES, PLACES, Changes, changing, changing_data
from equality.comparison import Case, compare
from equality.data import KINDS, Data
from equality.models import HABITS, OPTIMIZERS, SCHEDULES, Net
from equality.surroundings import CALLBACKS, OPTIONS
from pytorch_lightning import Callback

pytestmark = pytest.mark.filterwarnings("ignore")

WATCHED = pytest.mark.parametrize("is_watched", [False, True], ids=["unwatched", "watched"])


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    yield
    torch.set_num_threads(threads)
    torch.set_grad_enabled(True)


@WATCHED
@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: habit.__name__)
def test_habits_of_modules(habit: type[Net], is_watched: bool, tmp_path: Path) -> None:
    compare(Case(partial(habit, schedule="two"), is_watched=is_watched), tmp_path)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_and_schedules(optimizer: str, schedule: str, tmp_path: Path) -> None:
    fast = compare(Case(partial(Net, optimizer=optimizer, schedule=schedule)), tmp_path)
    assert fast.plain_steps or schedule == "plateau_step" or fast.error


@WATCHED
@pytest.mark.parametrize("options", OPTIONS)
def test_options_of_the_trainer(options: str, is_watched: bool, tmp_path: Path) -> None:
    compare(Case(partial(Net, schedule="two"), options=OPTIONS[options], is_watched=is_watched), tmp_path)


@pytest.mark.parametrize("callbacks", CALLBACKS)
def test_callbacks(callbacks: str, tmp_path: Path) -> None:
    schedule = "none" if callbacks in ("accumulation", "finetuning") else "two"
    case = Case(partial(Net, schedule=schedule), callbacks=CALLBACKS[callbacks], options={"max_epochs": 4})
    compare(case, tmp_path)


@WATCHED
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_kinds_of_data(kind: type[Data], is_watched: bool, tmp_path: Path) -> None:
    compare(Case(data=kind, is_watched=is_watched), tmp_path)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("change", CHANGES)
def test_changes_in_the_middle_of_an_epoch(change: str, place: str, tmp_path: Path) -> None:
    module, data, callbacks = partial(changing, place, CHANGES[change]), Data, lambda: [Callback()]
    if place == "batch":
        data = partial(changing_data, CHANGES[change])  # type: ignore[assignment]
    elif place not in ("training_step", "hook"):
        callbacks = lambda: [Changes(place, CHANGES[change])]  # noqa: E731
    compare(Case(module, data, callbacks=callbacks), tmp_path)
