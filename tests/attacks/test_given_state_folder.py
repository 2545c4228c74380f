"""A state folder that somebody else has made is data: none of its code runs, whatever it names. A canary would tell."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from commands import run
from optuna import create_study

from studies.common import trust
from studies.common.trust import contains, is_own, make_own
from studies.search.study import DEFINITION

EVIL = """
import pathlib
import pytorch_lightning
pathlib.Path({canary!r}).touch()
class Evil(pytorch_lightning.LightningModule):
    pass
class EvilData(pytorch_lightning.LightningDataModule):
    pass
"""


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder from somebody else, with a model of words, aa01, and code in it; we are in a folder of our own."""
    made = tmp_path / "theirs"
    made.mkdir()
    tiny_models.words(made)
    folder = tmp_path / "given"
    shutil.copytree(made, folder)  # a copy is another folder
    (folder / "evil.py").write_text(EVIL.format(canary=str(tmp_path / "canary")))
    spec = folder / "trials" / "aa01" / "spec.json"
    spec.write_text(spec.read_text().replace(str(made), str(folder)))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HARNESS_HOME", str(folder))
    return folder


def edit(folder: Path, **fields: Any) -> None:
    path = folder / "trials" / "aa01" / "spec.json"
    spec = json.loads(path.read_text())
    for name, value in fields.items():
        if name.endswith("__"):  # a section of the experiment
            spec["experiment"][name.removesuffix("__")] = value
        else:
            spec[name] = value
    path.write_text(json.dumps(spec))


def touches(path: Path) -> dict[str, Any]:
    return {"class_path": "os.system", "init_args": {"command": f"touch {path}"}}


ATTACKS: dict[str, Any] = {
    "data is a function": lambda canary, given: {"data__": touches(canary)},
    "the model is a process": lambda canary, given: {
        "model__": {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(canary)]}}
    },
    "a part of the model is a process": lambda canary, given: {
        "model__": {
            "class_path": "lightning_modules.GRUSeq2Seq",
            "init_args": {
                "hidden_size": {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(canary)]}}
            },
        }
    },
    "a part is a function": lambda canary, given: {
        "model__": {"class_path": "lightning_modules.GRUSeq2Seq", "init_args": {"hidden_size": touches(canary)}}
    },
    "a callback is a process": lambda canary, given: {
        "trainer__": {"callbacks": [{"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(canary)]}}]}
    },
    "the optimizer is a function": lambda canary, given: {"optimizer__": touches(canary)},
    "a module in the folder": lambda canary, given: {
        "model__": {"class_path": "evil.Evil"},
        "search_path": [str(given)],
    },
    "data in the folder": lambda canary, given: {
        "data__": {"class_path": "evil.EvilData"},
        "search_path": [str(given), str(given / "trials")],
    },
}


@pytest.mark.parametrize("command", [("predict", "aa01", "cat"), ("export", "aa01", "--format", "pt2")])
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_that_a_specification_names_runs(
    tmp_path: Path, given: Path, capsys: pytest.CaptureFixture[str], attack: str, command: tuple[str, ...]
) -> None:
    canary = tmp_path / "canary"
    edit(given, **ATTACKS[attack](canary, given))
    status, _, err = run(capsys, *command)
    assert not canary.exists()
    if attack in ("a callback is a process", "the optimizer is a function"):
        assert status == 0, f"a restored model needs neither: {err}"
    else:
        assert status == 2 and "Traceback" not in err and ("is not a " in err or "does not import" in err), err


def test_a_module_is_imported_from_the_folder_with_trust(
    tmp_path: Path, given: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(given, **ATTACKS["a module in the folder"](None, given))
    status, _, err = run(capsys, "predict", "aa01", "cat", "--trust")
    assert status == 2, "it is no model of words"
    assert (tmp_path / "canary").exists(), err
    assert is_own(given), "it is trusted from now on"


def test_a_sound_model_from_elsewhere_answers_without_trust(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, answer, err = run(capsys, "predict", "aa01", "cat")
    assert status == 0 and answer["predictions"], err


def test_the_folder_is_not_the_one_that_classes_are_imported_from(
    tmp_path: Path, given: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(given / "trials")
    monkeypatch.syspath_prepend(str(tmp_path / "here"))
    status, _, err = run(capsys, "predict", "aa01", "cat")
    assert status == 2 and "--trust" in err


@pytest.mark.parametrize("run_id", ["../../theirs/trials/aa01", "..", "/etc", "a/b", "", "a" * 65])
def test_an_id_that_is_a_path_is_none(given: Path, capsys: pytest.CaptureFixture[str], run_id: str) -> None:
    assert run(capsys, "predict", run_id, "cat")[0] == 2
    edit(given, run_id=run_id)
    status, _, err = run(capsys, "predict", "aa01", "cat")
    assert status == 2 and "is not the specification of a trial: run_id is" in err


class Touches:
    """Touches a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_a_checkpoint_is_not_unpickled(tmp_path: Path, given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = given / "trials" / "aa01" / "checkpoints" / "best.ckpt"
    content = torch.load(best)
    torch.save({**content, "thing": Touches(tmp_path / "canary")}, best)
    with zipfile.ZipFile(best) as file:
        assert any(b"touch" in file.read(name) for name in file.namelist() if name.endswith("data.pkl"))
    status, _, err = run(capsys, "predict", "aa01", "cat")
    assert status == 2 and not (tmp_path / "canary").exists() and "Traceback" not in err
    best.write_bytes(pickle.dumps(Touches(tmp_path / "canary")))
    assert run(capsys, "predict", "aa01", "cat")[0] == 2 and not (tmp_path / "canary").exists()


DEFINED = {
    "experiment": {"name": "toy", "model": {"class_path": "evil.Evil"}, "data": None, "trainer": {}},
    "space": {"model.width": [1, 2]},
    "metric": "val/loss",
    "direction": "minimize",
    "seed": 0,
}


def test_a_study_from_elsewhere_is_extended_only_with_trust(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create_study(storage=f"sqlite:///{given}/optuna.db", study_name="toy").set_user_attr(DEFINITION, DEFINED)
    status, _, err = run(capsys, "extend", "toy", "--epochs", "1")
    assert status == 2 and "was not made by you on this machine" in err and "--trust" in err


def test_which_folders_are_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    mine, used = tmp_path / "mine", tmp_path / "used"
    (used / "trials").mkdir(parents=True)
    assert not is_own(mine)
    make_own(mine)
    make_own(used)
    assert is_own(mine) and not is_own(used), "one that is in use is not made by working in it"
    (mine / "trials").mkdir()
    shutil.copytree(mine, tmp_path / "copy")
    mine.rename(tmp_path / "moved")
    assert is_own(tmp_path / "moved") and not is_own(tmp_path / "copy") and not is_own(mine)
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    assert is_own(tmp_path / "link")


def test_a_list_that_cannot_be_read_or_written_makes_no_folder_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    state.write_text("not a folder")
    make_own(tmp_path / "mine")
    assert (tmp_path / "mine").is_dir() and not is_own(tmp_path / "mine")
    monkeypatch.setattr(trust, "_list", lambda: None)
    make_own(tmp_path / "other")
    assert not is_own(tmp_path / "other")
    broken = tmp_path / "list"
    broken.write_bytes(b"\xff\xfe\nx y\n12\n")
    monkeypatch.setattr(trust, "_list", lambda: broken)
    assert not is_own(tmp_path / "mine")


def test_links_are_followed_before_a_path_is_inside(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "out").symlink_to(tmp_path)
    assert contains(tmp_path / "a", tmp_path / "a" / "b" / "..") and contains(tmp_path / "a", tmp_path / "a")
    assert not contains(tmp_path / "a", tmp_path / "a" / "out" / "b")
    assert not contains(tmp_path / "a", tmp_path / "a" / ".." / "b")
