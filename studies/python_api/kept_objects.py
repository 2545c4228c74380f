"""Classes and objects that no importable module has, pickled by value into a module of their own.

A class defined in a notebook's cell or in a script cannot be imported by a trial's process. cloudpickle stores it with
the code and the global names that it uses; a small module restores it, so that its class_path works like any other: in
trials, `harness resume`, `predict` and so on. The module is trusted as far as the state folder that it is in; see
studies.common.trust.
"""

from __future__ import annotations

import hashlib
import linecache
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle

from studies.common.atomic_files import write_whole
from studies.common.text import error_text

MODULE = '''"""Classes and objects of a notebook or script, restored from the .pkl beside this file."""

from studies.python_api.kept_objects import restored

DIGEST = "{digest}"  # of all of them
globals().update(restored(__file__, __name__))
'''


# What differs in pickles of equal classes: cloudpickle's random number (a UUID) for each, and a cell's file name.
VARYING = re.compile(rb"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}|ipykernel_[0-9]+")


class KeptObjects:
    """The objects of an experiment that have to be kept with it.

    Args:
        module: name of the module that will restore them.
    """

    def __init__(self, module: str) -> None:
        self.module = module
        self._named: dict[str, Any] = {}  # name in the module -> class or function
        self._made: dict[
            str, bytes
        ] = {}  # name of a function in the module -> pickled object that it returns a copy of
        self._types: dict[str, type] = {}  # the same name -> that object's class
        self._pickled: bytes | None = None

    def path_of(self, value: Any, where: str) -> str:
        """The dotted path of a class or function: its own if it can be imported, else one in the module."""
        path = f"{value.__module__}.{value.__qualname__}"
        if _can_be_imported(value):
            return path
        name = re.sub(r"\W", "_", value.__qualname__.rpartition(".")[2])
        while self._named.get(name, value) is not value:
            name += "_"
        self._named[name] = value
        _pickle(value, where)
        return f"{self.module}.{name}"

    def factory_of(self, value: Any, where: str) -> str:
        """The dotted path of a function that returns a copy of an object."""
        name = f"{re.sub(r'[^a-z0-9]', '_', type(value).__name__.lower())}_{len(self._made)}"
        self._made[name] = _pickle(value, where)
        self._types[name] = type(value)
        return f"{self.module}.{name}"

    def digest(self, more: str) -> str:
        """Twelve hexadecimal digits of the objects and of a text."""
        sources = {name: "".join(linecache.getlines(name)) for name in sorted(_files_of(self._named.values()))}
        content = {"named": self._named, "made": self._made, "types": self._types, "sources": sources}
        self._pickled = bytes(cloudpickle.dumps(content))
        return hashlib.sha256(VARYING.sub(b"", self._pickled) + more.encode()).hexdigest()[:12]

    def write(self, folder: Path, digest: str) -> None:
        """Writes the module and its pickle, unless there is nothing to keep."""
        if self._pickled is None or not (self._named or self._made):
            return
        write_whole(folder / f"{self.module}.pkl", self._pickled)
        write_whole(folder / f"{self.module}.py", MODULE.format(digest=digest))


def restored(file: str, module: str) -> dict[str, Any]:
    """The names of a module that was written by KeptObjects. Classes say that they are from there."""
    content = pickle.loads(Path(file).with_suffix(".pkl").read_bytes())
    for name, text in content["sources"].items():  # so that tracebacks show the lines
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    named = content["named"]
    for name, value in named.items():
        if not _can_be_found(value):  # it is not the original, in the process that defined it
            value.__module__, value.__qualname__ = module, name
    for name, kind in content["types"].items():
        named[name] = _copier(content["made"][name], kind)
        named[name].__module__, named[name].__name__, named[name].__qualname__ = module, name, name
    return dict(named)


def _copier(pickled: bytes, kind: type) -> Callable[[], Any]:
    def copy() -> Any:
        return pickle.loads(pickled)

    copy.__annotations__["return"] = kind  # the parser of arguments looks at it
    return copy


def _pickle(value: Any, where: str) -> bytes:
    try:
        return bytes(cloudpickle.dumps(value))
    except Exception as error:  # whatever the object's own code raises
        raise ValueError(f"{where}: {value!r:.80} cannot be pickled: {error_text(error)}") from error


def _can_be_imported(value: Any) -> bool:
    """Whether another process finds the same object under its module and name."""
    module = sys.modules.get(value.__module__)
    return value.__module__ != "__main__" and getattr(module, "__spec__", None) is not None and _can_be_found(value)


def _can_be_found(value: Any) -> bool:
    """Whether this process finds the object under its module and name."""
    found: Any = sys.modules.get(value.__module__)
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def _files_of(values: Any) -> set[str]:
    """The files, or cells, in which the methods of classes, or functions, were defined."""
    codes = []
    for value in values:
        parts = vars(value).values() if isinstance(value, type) else [value]
        codes += [code for part in parts if (code := getattr(part, "__code__", None)) is not None]
    return {code.co_filename for code in codes}
