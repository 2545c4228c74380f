"""Classes that cannot be imported are restored from a module of their own."""

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from studies.python_api.kept_objects import KeptObjects


def run(code: str, folder: Path) -> str:
    """What another process prints that has the kept objects' module on its path."""
    environment = {"PYTHONPATH": str(folder), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def kept(folder: Path, **objects: Any) -> dict[str, str]:
    """The dotted paths of objects, kept in a module in the folder."""
    store = KeptObjects("mine")
    is_class = {name: isinstance(value, type) or callable(value) for name, value in objects.items()}
    paths = {
        name: store.path_of(value, name) if is_class[name] else store.factory_of(value, name)
        for name, value in objects.items()
    }
    store.write(folder, store.digest(""))
    return paths


def test_a_class_that_can_be_imported_keeps_its_path(tmp_path: Path) -> None:
    assert kept(tmp_path, linear=torch.nn.Linear) == {"linear": "torch.nn.modules.linear.Linear"}
    assert list(tmp_path.iterdir()) == []


def test_a_class_from_elsewhere_works_in_another_process_with_what_it_uses(tmp_path: Path) -> None:
    factor = 3

    class Helper:
        def times(self, value: int) -> int:
            return factor * value

    class Net:
        def __init__(self, width: int = 2) -> None:
            self.width = Helper().times(width)

    assert kept(tmp_path, net=Net) == {"net": "mine.Net"}
    printed = run(
        "import mine, pickle; n = mine.Net(); print(n.width, mine.Net.__module__, pickle.dumps(n)[:0])", tmp_path
    )
    assert printed.split() == ["6", "mine", "b''"]
    assert Net.__module__ == __name__, "the original is as it was"


def test_two_classes_of_one_name_are_both_kept(tmp_path: Path) -> None:
    def made(value: int) -> type:
        class Net:
            answer = value

        return Net

    paths = kept(tmp_path, one=made(1), other=made(2))
    assert paths == {"one": "mine.Net", "other": "mine.Net_"}
    assert run("import mine; print(mine.Net.answer, mine.Net_.answer)", tmp_path).split() == ["1", "2"]


def test_each_call_of_a_factory_returns_another_copy(tmp_path: Path) -> None:
    paths = kept(tmp_path, callback={"a": [1]})
    name = paths["callback"].removeprefix("mine.")
    code = f"""
        import mine, typing
        one, other = mine.{name}(), mine.{name}()
        one["a"].append(2)
        print(other, typing.get_type_hints(mine.{name})["return"].__name__)
    """
    assert run(code, tmp_path).strip() == "{'a': [1]} dict"


def test_the_digest_is_of_the_code(tmp_path: Path) -> None:
    def digest(source: str) -> str:
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(source, names)
        store = KeptObjects("mine")
        store.path_of(names["Net"], "model")
        return store.digest("")

    first = "class Net:\n    def forward(self):\n        return 1"
    assert digest(first) == digest(first)
    assert digest(first) != digest(first.replace("1", "2"))


def test_the_module_is_not_run_in_the_process_that_defined_its_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cloudpickle finds the original class again, which must not be renamed."""
    main = sys.modules["__main__"]

    class Net:
        pass

    Net.__module__, Net.__qualname__ = "__main__", "Net"
    monkeypatch.setattr(main, "Net", Net, raising=False)
    kept(tmp_path, net=Net)
    monkeypatch.syspath_prepend(str(tmp_path))
    import mine  # type: ignore[import-not-found]

    assert mine.Net is Net and Net.__module__ == "__main__"
    del sys.modules["mine"]
