"""Classes of two runs whose modules have one name."""

import importlib
import sys
from pathlib import Path

from studies.python_api.import_scope import import_scope


def test_each_folder_has_its_own_module_and_afterwards_all_is_as_before(tmp_path: Path) -> None:
    sections = {"model": {"class_path": "scoped_net.Net"}}
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "scoped_net.py").write_text(f"class Net:\n    home = {name!r}\n")
    path, homes = list(sys.path), []
    for name in ("one", "other", "one"):
        with import_scope(sections, [str(tmp_path / name)]):
            sys.path.insert(0, str(tmp_path / name))
            homes.append(importlib.import_module("scoped_net").Net.home)
        assert sys.path == path
    assert homes == ["one", "other", "one"]
    assert sys.modules.pop("scoped_net").Net.home == "one", "what was imported first stays"
