"""Pictures at each validation leave a training unchanged, to the bit."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from test_run import events_of, series, weights

from studies.protocol.events import Event, Finished, Tags
from studies.trial import validation_pictures
from studies.trial.validation_pictures import ValidationPictures


def of(name: str, **trainer: Any) -> dict[str, Any]:
    return {
        "model": {"class_path": f"pictured.{name}", "init_args": {"learning_rate": 0.1}},
        "data": {"class_path": "toy.ToyData", "init_args": {"batch_size": 8}},
        "trainer": {"max_epochs": 3, "log_every_n_steps": 2, **trainer},
    }


def strip(folder: Path) -> dict[str, list[int]]:
    """Name of a picture -> the steps of its files in MLflow's strip."""
    found: dict[str, list[int]] = {}
    for path in (folder / "artifacts" / "images").glob("*.png"):
        match = re.fullmatch(r"(.+)\+step\+(\d+)\+timestamp\+\d+\+[0-9a-f-]{36}\.png", path.name)
        assert match and path.with_name(f"{path.stem}+compressed.webp").is_file()
        found.setdefault(match[1], []).append(int(match[2]))
    return {name: sorted(steps) for name, steps in found.items()}


def equal(folder: Path, other: Path) -> bool:
    a, b = weights(folder), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("trainer", [{}, {"val_check_interval": 0.5, "num_sanity_val_steps": 2}])
def test_a_training_with_pictures_is_the_same_to_the_bit(tmp_path: Path, trainer: dict[str, Any]) -> None:
    without = events_of(tmp_path / "without", of("Unpictured", **trainer))
    drawn = events_of(tmp_path / "drawn", of("Pictured", **trainer))
    assert isinstance(drawn[-1], Finished) and series(drawn) == series(without)
    assert equal(tmp_path / "drawn", tmp_path / "without")
    steps = [2, 4, 6, 8, 10, 12] if trainer else [4, 8, 12]
    assert strip(tmp_path / "drawn") == {"a~line": steps, "learning_curves": steps}
    assert not (tmp_path / "without" / "artifacts" / "images").exists()


def test_mlflow_is_told_and_finds_small_copies(tmp_path: Path) -> None:
    events = events_of(tmp_path, of("Pictured"))
    assert {"mlflow.loggedImages": "True"} in [event.values for event in events if isinstance(event, Tags)]
    for path in (tmp_path / "artifacts" / "images").glob("*.webp"):
        assert max(Image.open(path).size) <= validation_pictures.THUMBNAIL


def test_a_resumed_training_writes_the_same_files(tmp_path: Path) -> None:
    events_of(tmp_path / "parts", of("Pictured", max_epochs=2))
    last = str(tmp_path / "parts" / "checkpoints" / "last.ckpt")
    events_of(tmp_path / "whole", of("Pictured"))
    events_of(tmp_path / "parts", of("Pictured"), resume=last, extends=True)
    names = [
        sorted(path.name for path in (tmp_path / part / "artifacts/images").iterdir()) for part in ("parts", "whole")
    ]
    assert names[0] == names[1]


def test_a_picture_that_fails_is_one_warning_and_the_training_goes_on(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        events: list[Event] = events_of(tmp_path, of("Failing"))
    assert isinstance(events[-1], Finished)
    said = [str(item.message) for item in caught if "at validation" in str(item.message)]
    assert said == ["pictures at validation are missing: RuntimeError: no picture"]


def test_of_many_epochs_about_eight_in_each_doubling_are_drawn() -> None:
    def is_due(epoch: int) -> bool:
        trainer = SimpleNamespace(
            sanity_checking=False, state=SimpleNamespace(fn="fit"), world_size=1, current_epoch=epoch
        )
        return ValidationPictures()._is_due(trainer)  # type: ignore[arg-type]

    drawn = [epoch for epoch in range(1024) if is_due(epoch)]
    assert drawn[:24] == [*range(16), *range(16, 32, 2)] and drawn[24:32] == list(range(32, 64, 4))
    assert len(drawn) == 16 + 6 * 8
