"""Parameters of classes, read from their sources, are those of their constructors."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

from studies.config.experiment import load, shipped
from studies.config.source_parameters import parameters_in_source

CLASSES = {section["class_path"] for name in shipped() for section in (load(name).model, load(name).data or {})}


@pytest.mark.parametrize("class_path", sorted(CLASSES))
def test_shipped_classes_have_the_parameters_of_their_signatures(class_path: str) -> None:
    module, _, name = class_path.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    assert parameters_in_source(class_path, []) == list(inspect.signature(cls.__init__).parameters)[1:]


def test_lightnings_trainer() -> None:
    names = parameters_in_source("pytorch_lightning.Trainer", [])
    from pytorch_lightning import Trainer

    assert names == list(inspect.signature(Trainer.__init__).parameters)[1:]


SOURCES = {
    "user.py": "from package import *\nfrom package.deep.base import Base as B\nclass Net(B):\n"
    "    def __init__(self, width, /, *sizes, rate=0.1, **kwargs): ...\nclass Plain(B): pass\n",
    "package/__init__.py": "from .deep import Star\n",
    "package/deep/__init__.py": "from ..other import Star\n",
    "package/other.py": "class Star:\n    def __init__(self, seen): ...\n",
    "package/deep/base.py": "class Base(Exception):\n    def __init__(self, depth=1, *, rate=0.2): ...\n",
    "broken.py": "class Net(:\n",
    "circle.py": "from circle import Net\n",
}


@pytest.mark.parametrize(
    ("class_path", "names"),
    [
        ("user.Net", ["width", "rate", "depth"]),
        ("user.Plain", ["depth", "rate"]),
        ("user.Star", ["seen"]),
        ("package.Star", ["seen"]),
        ("broken.Net", []),
        ("circle.Net", []),
        ("absent.Net", []),
        ("Net", []),
        ("..user.Net", []),
    ],
)
def test_imports_and_base_classes_are_followed_and_nothing_is_run(
    tmp_path: Path, class_path: str, names: list[str]
) -> None:
    for file, text in SOURCES.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("raise SystemExit\n" * (file == "user.py") + text)
    assert parameters_in_source(class_path, [str(tmp_path)]) == names
