"""A user's packages take precedence over the harness's of the same names."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ASK = """
import importlib, sys
from studies.common import search_path
sys.path.insert(0, sys.argv[1])  # where ours are
{before}
for _ in range(2):  # what is used again stays as it is
    search_path.use([sys.argv[2], sys.argv[3]])
    print(importlib.import_module("datamodules.pictures").OWNER, importlib.import_module("datamodules").__path__)
"""


def write(package: Path, owner: str, init: bool) -> Path:
    package.mkdir(parents=True)
    (package / "pictures.py").write_text(f"OWNER = {owner!r}\n")
    if init:
        (package / "__init__.py").write_text("")
    return package


def asked(ours: Path, first: Path, second: Path, before: str = "") -> str:
    command = [sys.executable, "-c", ASK.format(before=before), *map(str, (ours.parent, first, second))]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("init", [True, False])
@pytest.mark.parametrize("before", ["", "import datamodules.pictures"])
def test_a_users_package_takes_precedence_with_and_without_an_init(tmp_path: Path, init: bool, before: str) -> None:
    ours = write(tmp_path / "ours" / "datamodules", "us", init=True)
    theirs = write(tmp_path / "theirs" / "datamodules", "them", init)
    assert asked(ours, tmp_path, theirs.parent, before) == f"them {[str(theirs)]}\n" * 2


def test_a_folder_without_code_is_not_a_package(tmp_path: Path) -> None:
    ours = write(tmp_path / "ours" / "datamodules", "us", init=True)
    (tmp_path / "theirs" / "datamodules").mkdir(parents=True)
    assert asked(ours, tmp_path, tmp_path / "theirs") == f"us {[str(ours)]}\n" * 2
