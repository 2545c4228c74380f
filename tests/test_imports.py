"""Checks which packages may import which (docs/architecture.md), in every import statement of every file."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "studies").rglob("*.py"))
LIBRARIES = ("torch", "pytorch_lightning", "lightning_fabric", "optuna", "mlflow", "matplotlib", "PIL", "torchmetrics")

# Package -> other packages that it may import, bottom-up.
MAY_IMPORT: dict[str, set[str]] = {
    "common": set(),
    "console": {"common"},
    "config": {"common"},
    "protocol": {"common"},
    "plots": {"common"},
    "statistics": {"common"},
    "search": {"common", "config"},
    "tracking": {"common", "protocol"},
    "reports": {"common", "config", "protocol", "plots", "search", "tracking"},
    "trial": {"common", "config", "protocol", "plots"},
    "doctor": {"common", "console", "config", "protocol", "search", "tracking"},
    "acceleration": {"common", "protocol", "plots", "search", "tracking", "trial"},
    "executors": {"common", "protocol", "trial", "acceleration"},
    "inference": {
        *("common", "config", "console", "protocol", "plots", "statistics", "tracking", "trial", "executors"),
    },
    "driver": {
        *("common", "console", "config", "protocol", "plots", "statistics", "search", "tracking", "reports"),
        *("executors", "acceleration"),
    },
    "web": {"common", "config", "console", "inference"},
}
MAY_IMPORT["cli"] = set(MAY_IMPORT)
MAY_IMPORT["python_api"] = {"common", "console", "config", "tracking", "inference", "cli"}
"""Packages imported by the driver, without torch."""
NO_TORCH = ("common", "console", "config", "protocol", "search", "tracking", "reports", "driver", "cli")
ROOMS = {"optuna": {"search", "acceleration/optuna"}, "mlflow": {"tracking", "acceleration/mlflow"}}


def imports_of(path: Path) -> set[str]:
    """Dotted names of everything that a file imports; `from a import b` counts as a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)}


def package_of(path: Path) -> str:
    return path.relative_to(ROOT / "studies").parts[0]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


KNOWN = {name_of(path): path for path in FILES}


def ours(path: Path) -> set[str]:
    """The modules of studies/ that a file imports."""
    return {name for name in imports_of(path) if name in KNOWN and name != "studies"}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_only_import_lower_ones(package: str) -> None:
    for path in (ROOT / "studies" / package).rglob("*.py"):
        others = {name.split(".")[1] for name in ours(path)} - {package}
        others -= MAY_IMPORT[package]
        assert not others, f"{name_of(path)} imports {sorted(others)}"


def test_every_file_is_in_a_package_with_import_rules() -> None:
    assert [path.name for path in (ROOT / "studies").iterdir() if path.is_file()] == ["__init__.py"]
    found = {package_of(path) for path in FILES} - {"__init__.py"}
    assert found | {"acceleration"} == set(MAY_IMPORT), "acceleration may be removed"


def test_imports_have_no_cycles() -> None:
    graph = {name: ours(path) - {name} for name, path in KNOWN.items()}
    while graph:
        leaves = {name for name, below in graph.items() if not below & graph.keys()}
        assert leaves, f"a circle among {sorted(graph)}"
        graph = {name: below for name, below in graph.items() if name not in leaves}


@pytest.mark.parametrize("library", ROOMS)
def test_optuna_and_mlflow_are_each_imported_in_one_package(library: str) -> None:
    for path in FILES:
        where = path.relative_to(ROOT / "studies").parent.as_posix()
        assert library not in tops(path) or where in ROOMS[library], f"{name_of(path)} imports {library}"


@pytest.mark.parametrize("package", NO_TORCH)
def test_what_a_driver_imports_has_no_torch(package: str) -> None:
    for path in (ROOT / "studies" / package).rglob("*.py"):
        assert not tops(path) & {"torch", "pytorch_lightning", "torchmetrics", "lightning_fabric"}, path


def test_low_level_packages_only_use_the_standard_library_and_psutil() -> None:
    for path in [*(ROOT / "studies/common").rglob("*.py"), *(ROOT / "studies/protocol").rglob("*.py")]:
        assert tops(path) <= {*sys.stdlib_module_names, "studies", "psutil"}, path


@pytest.mark.parametrize("folder", ["lightning_modules", "datamodules"])
def test_modules_and_datamodules_can_be_lifted_into_a_notebook(folder: str) -> None:
    for path in (ROOT / folder).glob("*.py"):
        others = {"studies", "mlflow", "optuna", "lightning_modules", "datamodules"} - {folder}
        assert not tops(path) & others, path


def test_no_one_imports_a_users_package() -> None:
    for path in FILES:
        assert not tops(path) & {"lightning_modules", "datamodules"}, path


# Two files may use acceleration: where a study and where a trial are assembled.
COMPOSITION_ROOTS = {"studies.driver.session", "studies.executors.worker"}


def test_only_two_places_use_acceleration() -> None:
    for path in FILES:
        if package_of(path) != "acceleration":
            assert not any(name.startswith("studies.acceleration") for name in imports_of(path)), path
    users = {name_of(path) for path in FILES if "studies.common.plain.acceleration" in imports_of(path)}
    assert users == COMPOSITION_ROOTS


def test_what_is_not_tested_again_without_acceleration_cannot_reach_it() -> None:
    """NOT_AGAIN of the Makefile: neither the places above nor anything that imports them, directly or not."""
    line = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("NOT_AGAIN"))
    for name in {*line.split(":=")[1].split()} - {"datamodules", "lightning_modules"}:
        reached, left = set(), {name}
        while left:
            reached |= left
            left = {other for package in left for other in MAY_IMPORT[package]} - reached
        assert not reached & {"driver", "executors", "acceleration"}, name


# Private names of libraries outside acceleration/, each with its reason.
PRIVATE: dict[str, set[str]] = {
    # The order in which torch.export and torch.onnx take a module's outputs has no public name.
    "studies.inference.export_formats": {"torch.utils._pytree", "torch.utils._pytree.tree_leaves"},
    "studies.inference.export_worker": {"torch.utils._pytree", "torch.utils._pytree.tree_leaves"},
    # MLflow only creates, checks and upgrades a database at start-up or by its command line.
    "studies.tracking.database": {
        f"mlflow.store.db.utils.{name}"
        for name in ("_all_tables_exist", "_initialize_tables", "_upgrade_db", "_verify_schema")
    },
}


def private_names(path: Path) -> set[str]:
    """Names with a leading underscore that a file imports from a library, and those of modules that begin with one."""
    found = {name for name in imports_of(path) if name.split(".")[0] in LIBRARIES}
    return {name for name in found if any(part.startswith("_") for part in name.split("."))}


def test_private_names_of_libraries_stay_in_acceleration() -> None:
    for path in FILES:
        if package_of(path) != "acceleration":
            found = private_names(path) - PRIVATE.get(name_of(path), set())
            assert not found, f"{name_of(path)}: {sorted(found)}"


# Private attributes of objects of libraries outside acceleration/, each with its reason.
PRIVATE_ATTRIBUTES: dict[str, set[str]] = {
    # Optuna has no public way to resume a trial that another process left running.
    "studies.search.study": {"_storage", "_trial_id"},
    # See PRIVATE.
    "studies.tracking.database": {"_engine_map", "_get_or_create_engine"},
    # Lightning's own way of resuming is not exact (docs/decisions/), so its loops' positions are set directly.
    "studies.trial.callbacks": {"_seen_batches_per_dataloader"},
    "studies.trial.checkpointing": {
        *("_combined_loader", "_data_fetcher", "_load_state_dicts", "_logger_connector", "_results"),
        *("_combined_loader_states_to_load", "_last_train_dl_reload_epoch", "_restarting", "_resuming_from_checkpoint"),
    },
    "studies.trial.random_states": {"_combined_loader"},
    "studies.trial.logged_values": {"_batches_that_stepped"},
    # PyTorch's schedules keep their lengths in private attributes.
    "studies.trial.schedules": {
        *(
            "_checkpoint_connector",
            "_get_closed_form_lr",
            "_loaded_checkpoint",
            "_last_lr",
            "_milestones",
            "_schedulers",
        ),
    },
}
STANDARD = {"_SubParsersAction", "_actions", "_clear", "_exit", "_run_exitfuncs"}  # argparse, atexit, os


def test_private_attributes_of_libraries_are_used_in_acceleration_alone() -> None:
    """Private names that no class or file outside acceleration/ defines."""
    trees = {name_of(path): ast.parse(path.read_text()) for path in FILES if package_of(path) != "acceleration"}
    own: set[str] = set()
    used: dict[str, set[str]] = {}
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                own.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                own.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
                own.add(node.attr)
            elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                used.setdefault(name, set()).add(node.attr)
    for name, attributes in used.items():
        found = attributes - own - STANDARD - PRIVATE_ATTRIBUTES.get(name, set())
        assert not found, f"{name}: {sorted(found)}"


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["list", "--json"], ["study", "--help"], ["watch", "--help"]]
)
def test_help_and_list_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from studies.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'mlflow', 'optuna', 'pytorch_lightning', 'matplotlib', 'numpy', 'rich', 'mcp'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, cwd=ROOT)


def test_the_driver_never_imports_torch() -> None:
    modules = "studies.driver.commands, studies.driver.study, studies.cli.commands, studies.tracking.client"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)
