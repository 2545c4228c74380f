"""`import lightning` in all its forms gives pytorch_lightning's own modules and classes."""

import importlib
import importlib.util
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lightning_fabric
import pytest
import pytorch_lightning as pl

from studies.common import lightning_alias


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    forget()
    lightning_alias.install()
    lightning_alias.install()  # once is enough, and twice does no harm
    yield
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "lightning"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("code", "module", "name"),
    [
        ("import lightning as L; found = L.LightningModule", "pytorch_lightning", "LightningModule"),
        ("import lightning; found = lightning.Trainer", "pytorch_lightning", "Trainer"),
        ("from lightning import seed_everything as found", "lightning_fabric.utilities.seed", "seed_everything"),
        ("from lightning import Callback as found", "pytorch_lightning.callbacks", "Callback"),
        ("from lightning import Fabric as found", "lightning_fabric", "Fabric"),
        ("import lightning as L; found = L.pytorch.LightningDataModule", "pytorch_lightning", "LightningDataModule"),
        ("import lightning as L; found = L.fabric.Fabric", "lightning_fabric", "Fabric"),
        ("import lightning.pytorch as pl; found = pl.Trainer", "pytorch_lightning", "Trainer"),
        ("from lightning.pytorch import callbacks; found = callbacks.Timer", "pytorch_lightning.callbacks", "Timer"),
        ("from lightning.pytorch.callbacks import Timer as found", "pytorch_lightning.callbacks", "Timer"),
        ("import lightning.pytorch.callbacks.timer as t; found = t.Timer", "pytorch_lightning.callbacks", "Timer"),
        ("from lightning.pytorch.cli import LightningCLI as found", "pytorch_lightning.cli", "LightningCLI"),
        (
            "from lightning.pytorch.utilities.rank_zero import rank_zero_only as found",
            "pytorch_lightning.utilities.rank_zero",
            "rank_zero_only",
        ),
        (
            "from lightning.fabric.utilities import move_data_to_device as found",
            "lightning_fabric.utilities",
            "move_data_to_device",
        ),
    ],
)
def test_each_import_form_finds_the_same_object(code: str, module: str, name: str) -> None:
    names: dict[str, object] = {}
    exec(code, names)
    assert names["found"] is getattr(importlib.import_module(module), name)


def test_aliased_modules_keep_their_names() -> None:
    import lightning.fabric
    import lightning.pytorch.callbacks.timer

    assert lightning.pytorch is pl and lightning.fabric is lightning_fabric
    assert pl.__name__ == "pytorch_lightning" and pl.__spec__ is not None and pl.__spec__.name == "pytorch_lightning"
    assert lightning.__version__ == pl.__version__  # type: ignore[attr-defined]
    assert pickle.loads(pickle.dumps(lightning.pytorch.callbacks.timer.Timer)) is pl.callbacks.Timer


@pytest.mark.parametrize("name", ["lightning.app", "lightning.pytorch.nothing", "lightning.fabric.nothing"])
def test_missing_modules_are_not_found(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=name):
        importlib.import_module(name)


def test_a_search_imports_nothing() -> None:
    spec = importlib.util.find_spec("lightning")
    assert spec is not None and spec.name == "lightning" and "lightning" not in sys.modules
    code = "import sys; from studies.common import lightning_alias as a; a.install(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("file", ["lightning.py", "lightning/__init__.py", "lightning/models.py"])
def test_a_users_file_of_that_name_takes_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("mine = True")
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "lightning.models" if file.endswith("models.py") else "lightning"
    assert importlib.import_module(name).mine


def test_a_folder_without_code_and_the_real_package_are_not_user_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "lightning").mkdir()
    assert importlib.import_module("lightning").Trainer is pl.Trainer
    forget()
    for part in (".", "pytorch", "fabric"):
        (tmp_path / "lightning" / part).mkdir(exist_ok=True)
        (tmp_path / "lightning" / part / "__init__.py").touch()
    assert importlib.import_module("lightning").Trainer is pl.Trainer
