"""What a trial's Trainer is built with, beside the experiment's own arguments."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.callbacks import ModelCheckpoint, ModelSummary, ProgressBar, TQDMProgressBar

from studies.protocol.channel import Channel
from studies.protocol.trial_spec import TrialSpec
from studies.trial import trainer as trainers
from studies.trial.checkpointing import Checkpoints
from studies.trial.instantiate import Parts
from studies.trial.logger import EventLogger
from studies.trial.trainer import as_list, build_trainer, denormals_as_before, flush_denormals, seed_and_threads


class Module(LightningModule):
    """Does nothing."""


def built(folder: Path, *ours: Callback, module: LightningModule | None = None, **arguments: Any) -> Any:
    logger = EventLogger(None, folder, "r")
    spec = TrialSpec("r", {}, 0, str(folder))
    made = build_trainer(spec, Parts(module or Module(), None, arguments), logger, [], list(ours))
    assert logger.trainer is made and made.loggers[0] is logger
    return made


def ours(folder: Path) -> Checkpoints:
    return Checkpoints(Channel(None), folder, None, "minimize")


def kinds(trainer: Any) -> set[str]:
    return {type(callback).__name__ for callback in trainer.callbacks}


def test_nothing_is_added_that_nobody_asked_for(tmp_path: Path) -> None:
    trainer = built(tmp_path)
    assert trainer.callbacks == [] and trainer.checkpoint_callback is None
    assert trainer.default_root_dir == str(tmp_path)


def test_the_users_callbacks_stand_between_ours(tmp_path: Path) -> None:
    first, theirs, last = Callback(), Callback(), Callback()
    spec, logger = TrialSpec("r", {}, 0, str(tmp_path)), EventLogger(None, tmp_path, "r")
    parts = Parts(Module(), None, {"callbacks": theirs})
    assert build_trainer(spec, parts, logger, [first], [last]).callbacks == [first, theirs, last]


def test_the_users_folder_and_limits_win(tmp_path: Path) -> None:
    assert built(tmp_path, default_root_dir=str(tmp_path / "own")).default_root_dir == str(tmp_path / "own")
    spec, logger = TrialSpec("r", {}, 0, str(tmp_path)), EventLogger(None, tmp_path, "r")
    made = build_trainer(spec, Parts(Module(), None, {"max_epochs": 5}), logger, [], [], None, max_epochs=2)
    assert made.max_epochs == 2


def test_only_our_checkpoints_where_the_user_has_none(tmp_path: Path) -> None:
    trainer = built(tmp_path, ours(tmp_path))
    assert kinds(trainer) == {"Checkpoints"} and isinstance(trainer.checkpoint_callback, Checkpoints)
    switched_off = built(tmp_path, ours(tmp_path), enable_checkpointing=False)
    assert kinds(switched_off) == {"Checkpoints"}, "the user's checkpoints are off, not those we resume from"


def test_the_users_checkpoints_are_kept_and_conflicts_refused(tmp_path: Path) -> None:
    trainer = built(tmp_path, ours(tmp_path), callbacks=[ModelCheckpoint(tmp_path)])
    assert kinds(trainer) == {"Checkpoints", "ModelCheckpoint"}
    with pytest.raises(ValueError, match=r"trainer\.enable_checkpointing is false, but trainer\.callbacks has"):
        built(tmp_path, callbacks=[ModelCheckpoint(tmp_path)], enable_checkpointing=False)


def test_progress_bars_are_the_users_alone(tmp_path: Path) -> None:
    def bars(**arguments: Any) -> int:
        return sum(isinstance(callback, ProgressBar) for callback in built(tmp_path, **arguments).callbacks)

    assert bars() == bars(enable_progress_bar=True) == 0
    assert bars(callbacks=[TQDMProgressBar()]) == 1


class WithExample(Module):
    example_input_array = torch.zeros(1, 2)


def test_a_summary_is_made_where_it_may_change_the_module(tmp_path: Path) -> None:
    """It runs the module on its example, which makes lazy layers, as it does in Lightning."""

    def summaries(module: LightningModule, **arguments: Any) -> int:
        found = built(tmp_path, module=module, **arguments).callbacks
        return sum(isinstance(callback, ModelSummary) for callback in found)

    assert summaries(Module()) == summaries(Module(), enable_model_summary=True) == 0
    assert summaries(WithExample()) == summaries(WithExample(), enable_model_summary=True) == 1
    assert summaries(WithExample(), enable_model_summary=False) == 0
    assert summaries(Module(), callbacks=[ModelSummary()]) == 1


def test_acceleration_is_handed_the_trainer(tmp_path: Path) -> None:
    handed: list[Any] = []
    spec, logger = TrialSpec("r", {}, 0, str(tmp_path)), EventLogger(None, tmp_path, "r")
    made = build_trainer(spec, Parts(Module(), None, {}), logger, [], [], handed.append)
    assert handed == [made]


def test_sections_without_loggers() -> None:
    sections = {"model": {"class_path": "a.B"}, "trainer": {"max_epochs": 1, "logger": True}}
    assert trainers.without_loggers(sections) == {"model": {"class_path": "a.B"}, "trainer": {"max_epochs": 1}}
    assert "logger" in sections["trainer"]


def test_one_or_several() -> None:
    assert as_list(None) == [] and as_list(0) == [0] and as_list((1, 2)) == as_list([1, 2]) == [1, 2]


@pytest.mark.parametrize(("available", "hidden"), [(True, None), (False, "")])
def test_gpus_are_hidden_where_there_are_none(
    monkeypatch: pytest.MonkeyPatch, available: bool, hidden: str | None
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(is_available=lambda: available))
    trainers.forget_absent_gpus()
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == hidden
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


class Flushes(Module):
    flush_denormals = True


class Inherits(Flushes):
    """Says nothing of its own."""


class SaysOne(Module):
    flush_denormals = 1


def are_flushed() -> bool:
    return float(torch.tensor(1e-39, dtype=torch.float32) * torch.tensor(0.5)) == 0.0


@pytest.mark.parametrize(
    ("module", "flushed"), [(Flushes, True), (Inherits, False), (SaysOne, False), (Module, False), (None, False)]
)
def test_denormals_are_flushed_by_the_classs_own_word_and_as_before_afterwards(module: Any, flushed: bool) -> None:
    before = are_flushed()
    for was in (True, False):
        torch.set_flush_denormal(was)
        with denormals_as_before():
            flush_denormals(module)
            assert are_flushed() == flushed
        assert are_flushed() == was == (sys.float_info.min / 4 == 0.0)
    torch.set_flush_denormal(before)


@pytest.mark.parametrize(("threads", "expected"), [(3, 3), (0, 2)])
def test_seed_and_threads(threads: int, expected: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    seed_and_threads(TrialSpec("r", {}, 11, "folder", threads=threads))
    assert torch.get_num_threads() == expected and torch.initial_seed() == 11
    assert os.environ.pop("PL_SEED_WORKERS") == "1" and os.environ.pop("PL_GLOBAL_SEED") == "11"
    torch.set_num_threads(before)
