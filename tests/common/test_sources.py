"""Folders with the same experiment but different code are distinguished; a moved folder is the same."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from studies.common.sources import origin_of
from studies.config.search_space import parse_space
from studies.search import Search

SPACE = {"model.lr": [1, 2]}
SECTIONS = {"model": {"class_path": "net.Net", "init_args": {"head": [{"class_path": "./extra.py:Head"}]}}}


def write(folder: Path, constant: int = 1) -> Path:
    (folder / "parts").mkdir(parents=True)
    (folder / "net.py").write_text("import torch\nfrom parts import blocks\n")
    (folder / "parts" / "__init__.py").write_text("")
    (folder / "parts" / "blocks.py").write_text(f"from .sizes import *\nCONSTANT = {constant}\n")
    (folder / "parts" / "sizes.py").write_text("this is no Python")
    (folder / "extra.py").write_text("def head():\n    from unrelated import nothing\n")
    (folder / "unused.py").write_text("")
    (folder / "exp.yaml").write_text("the same")
    return folder


def origin(folder: Path, state: Path) -> dict[str, Any]:
    return origin_of(folder / "exp.yaml", SECTIONS, [folder, folder.parent], state)


def opened(state: Path, folder: Path) -> str | None:
    state.mkdir(exist_ok=True)
    definition = {"experiment": {}, "space": SPACE, "metric": "m", "direction": "minimize", "seed": 1}
    search = Search(f"sqlite:///{state}/optuna.db", "exp", definition, parse_space(SPACE), "random", "none", None)
    return search.came_from(origin(folder, state), state)


def test_all_files_reachable_from_the_classes(tmp_path: Path) -> None:
    found = origin(write(tmp_path / "a"), tmp_path / "state")
    assert set(found["code"]) == {"net.py", "extra.py", "parts/__init__.py", "parts/blocks.py", "parts/sizes.py"}
    assert found["from_state"] == "../a/exp.yaml"


def test_changed_code_is_reported_once(tmp_path: Path) -> None:
    folder, state = write(tmp_path / "a"), tmp_path / "state"
    assert opened(state, folder) is None
    (folder / "parts" / "blocks.py").write_text("CONSTANT = 2\n")
    assert opened(state, folder) == "resuming study exp with changed code: parts/blocks.py"
    assert opened(state, folder) is None


def test_another_folder_with_different_code_is_rejected(tmp_path: Path) -> None:
    state = tmp_path / "state"
    opened(state, write(tmp_path / "a"))
    with pytest.raises(ValueError, match=r"with a different parts/blocks.py than .*/b/exp.yaml; give another"):
        opened(state, write(tmp_path / "b", constant=2))
    assert opened(state, write(tmp_path / "same")) is None


def test_a_folder_that_was_moved_is_the_same(tmp_path: Path) -> None:
    project = write(tmp_path / "project")
    opened(project / "state", project)
    (tmp_path / "project").rename(tmp_path / "moved")
    moved = tmp_path / "moved"
    assert opened(moved / "state", moved) is None
    shutil.move(moved, tmp_path / "again")
    again = tmp_path / "again"
    (again / "net.py").write_text("")
    assert opened(again / "state", again) == "resuming study exp with changed code: net.py"


def test_a_copy_with_its_own_state_is_a_separate_study(tmp_path: Path) -> None:
    project = write(tmp_path / "project")
    opened(project / "state", project)
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    (copy / "net.py").write_text("")
    assert opened(copy / "state", copy) == "resuming study exp with changed code: net.py"
